"""How XLA runs in the tests and in the programs that they start."""


def flags(devices):
    """Value of `XLA_FLAGS` for a number of CPU devices.

    Without optimisation and with the older, quicker generator of code, because tests wait for the
    compiler more than for what it compiles; it works in one thread, as workers fill the cores.
    """
    return (
        f"--xla_force_host_platform_device_count={devices}"
        " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    )
