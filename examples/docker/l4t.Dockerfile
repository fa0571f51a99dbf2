# maskrt on a Jetson with JetPack 6.1, which brings TensorRT 10.3 and Python 3.10. On the Jetson, from this
# clone, with NVIDIA's image l4t-jetpack (in the NGC catalogue) pulled and tagged as below:
#
#     docker build -f examples/docker/l4t.Dockerfile --build-arg BASE=l4t-jetpack:r36.4.0 -t maskrt .
#     R=maskrt-record:/home/user/.local/state/maskrt      # what was built here is remembered (docs/trust.md)
#     docker run --rm --runtime nvidia -v $R -v "$PWD:/data" maskrt build street.maskrt --target orin-nx --here
#     docker run --rm --runtime nvidia -v $R -v "$PWD:/data" maskrt run street.maskrt pictures/ -o out/
#
# The packages are those of a kit (`maskrt build --kit`), which needs neither Docker nor a network.
# Has been linted, and has not been built: no Jetson has met it yet.
ARG BASE=l4t-jetpack:r36.4.0

# The base is the user's to name.
# hadolint ignore=DL3006
FROM ${BASE} AS wheel
WORKDIR /source
COPY . .
# hadolint ignore=DL3013
RUN python3 -m pip install --no-cache-dir "pip>=23" \
    && python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

# hadolint ignore=DL3006
FROM ${BASE}
COPY --from=wheel /wheel /wheel
RUN python3 -m pip install --no-cache-dir "numpy<2" "cuda-bindings==12.8.*" "nvidia-cuda-nvrtc-cu12==12.6.*" \
        "pycocotools>=2.0.8" /wheel/maskrt-*.whl \
    && useradd --create-home --uid 1000 user && usermod --append --groups video user \
    && install --directory --owner user --mode 0700 /home/user/.local/state/maskrt
USER 1000
WORKDIR /data
ENTRYPOINT ["maskrt"]
CMD ["--help"]
