from machines.runtime.machine import MachineSpec, all_toppings, run_machine
from machines.runtime.messages import Pizza, encode


def pizza_done(pizza: Pizza, finished_us: int) -> bytes:
    """The pizza-done record: it closes the pizza's account and carries nothing else."""
    return encode(
        {
            "orderId": pizza["orderId"],
            "orderSize": pizza["orderSize"],
            "pizzaId": pizza["pizzaId"],
            "endTimestamp": finished_us // 1000,
        }
    )


SPEC = MachineSpec(
    "packaging-machine", ("pizza-done",), "Pizza packed", toppings=all_toppings, encode=pizza_done, last=True
)

if __name__ == "__main__":
    run_machine(SPEC)
