from machines.runtime.machine import MachineSpec, all_toppings, run_machine
from machines.runtime.messages import Pizza, Recipe

FREEZER, PACKAGING = "freezer-machine", "packaging-machine"


def apply(pizza: Pizza, recipe: Recipe) -> None:
    pizza["baked"] = True


SPEC = MachineSpec(
    "oven-machine",
    (FREEZER, PACKAGING),
    "Pizza baked",
    apply,
    toppings=all_toppings,
    choose=lambda recipe: FREEZER if recipe.frozen else PACKAGING,
)

if __name__ == "__main__":
    run_machine(SPEC)
