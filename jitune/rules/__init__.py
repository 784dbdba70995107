"""What becomes of an equation when a structured leaf is among its inputs."""
