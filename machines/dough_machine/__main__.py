from machines.runtime.machine import MachineSpec, run_machine

SPEC = MachineSpec("dough-machine", ("dough-shaper",), "Dough prepared")

if __name__ == "__main__":
    run_machine(SPEC)
