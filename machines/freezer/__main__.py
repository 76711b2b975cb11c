from machines.runtime.machine import MachineSpec, all_toppings, run_machine

SPEC = MachineSpec("freezer-machine", ("packaging-machine",), "Pizza frozen", toppings=all_toppings)

if __name__ == "__main__":
    run_machine(SPEC)
