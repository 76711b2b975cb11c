from machines.runtime.machine import MachineSpec, run_machine
from machines.runtime.messages import Pizza, Recipe


def apply(pizza: Pizza, recipe: Recipe) -> None:
    pizza["sauce"] = recipe.sauce


SPEC = MachineSpec("sauce-machine", ("cheese-machine",), "Sauce added to pizza", apply)

if __name__ == "__main__":
    run_machine(SPEC)
