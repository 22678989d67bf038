"""The chip as silicon: area, power, speed, cost and time, from a plan and a target."""
