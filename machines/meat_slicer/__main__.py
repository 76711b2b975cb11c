from machines.runtime.machine import MachineSpec, run_machine
from machines.runtime.messages import Pizza, Recipe


def apply(pizza: Pizza, recipe: Recipe) -> None:
    pizza["meat"] = list(recipe.meat)


SPEC = MachineSpec(
    "meat-machine",
    ("vegetables-machine",),
    "Meat added to pizza",
    apply,
    toppings=lambda recipe: len(recipe.meat),
)

if __name__ == "__main__":
    run_machine(SPEC)
