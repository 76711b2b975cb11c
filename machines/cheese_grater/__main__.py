from machines.runtime.machine import MachineSpec, run_machine
from machines.runtime.messages import Pizza, Recipe


def apply(pizza: Pizza, recipe: Recipe) -> None:
    pizza["cheese"] = list(recipe.cheese)


SPEC = MachineSpec(
    "cheese-machine",
    ("meat-machine",),
    "Cheese added to pizza",
    apply,
    toppings=lambda recipe: len(recipe.cheese),
)

if __name__ == "__main__":
    run_machine(SPEC)
