"""How near restored pictures come to clean ones: metrics, pictures to measure on, other solvers on the same network."""
