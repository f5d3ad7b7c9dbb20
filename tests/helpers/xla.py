"""How XLA runs in the tests and in the programs that they start."""


def flags(devices):
    """Value of `XLA_FLAGS` for a number of CPU devices.

    XLA runs without optimisation and with the older, quicker code generator, because tests spend
    more time on compilation than on compiled code; it compiles in one thread, as the test workers
    already fill the cores.
    """
    return (
        f"--xla_force_host_platform_device_count={devices}"
        " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
        " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    )
