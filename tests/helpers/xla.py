"""How XLA runs in the tests and in the programs that they start."""


def flags(devices):
    """Value of `XLA_FLAGS` for a number of CPU devices.

    Without optimisation, because tests wait for the compiler more than for what it compiles.
    """
    return (
        f"--xla_force_host_platform_device_count={devices}"
        " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    )
