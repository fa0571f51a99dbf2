"""The package as colcon builds it."""

from setuptools import setup

setup(
    name="maskrt_ros",
    version="0.1.0",
    packages=["maskrt_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/maskrt_ros"]),
        ("share/maskrt_ros", ["package.xml"]),
    ],
    install_requires=["setuptools", "maskrt"],
    zip_safe=True,
    license="Apache-2.0",
    entry_points={"console_scripts": ["detector = maskrt_ros.detector:main"]},
)
