from machines.runtime.machine import MachineSpec, run_machine

SPEC = MachineSpec("dough-shaper", ("sauce-machine",), "Dough shaped")

if __name__ == "__main__":
    run_machine(SPEC)
