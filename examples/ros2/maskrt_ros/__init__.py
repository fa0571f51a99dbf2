"""A ROS 2 node around a maskrt session."""
