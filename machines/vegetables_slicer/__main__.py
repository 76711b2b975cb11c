from machines.runtime.machine import MachineSpec, run_machine
from machines.runtime.messages import Pizza, Recipe


def apply(pizza: Pizza, recipe: Recipe) -> None:
    pizza["veggies"] = list(recipe.veggies)


SPEC = MachineSpec(
    "vegetables-machine",
    ("oven-machine",),
    "Vegetables added to pizza",
    apply,
    toppings=lambda recipe: len(recipe.veggies),
)

if __name__ == "__main__":
    run_machine(SPEC)
