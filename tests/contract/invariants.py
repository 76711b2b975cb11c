"""What holds for every record that a service writes, whatever the case is about (machines/contract/README.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.contract.broker import Watch
from tests.contract.case import Json
from tests.contract.matching import match
from tests.contract.records import Seen, Sent, now_us

TIMES = ("arrived-us", "started-us", "finished-us", "handed-off-us")
MAX_ID = 2**31 - 1
DEAD_LETTER_VALUE_BYTES = 65_536
_TEXT = {"$": "text"}
_RECENT = {"$": "recent-ms"}


@dataclass
class Invariants:
    """Checks each record of ``service`` as it is read. ``began_us``: no timing header may be earlier."""

    service: str
    watch: Watch
    began_us: int = field(default_factory=now_us)
    _handed_on: dict[int, Seen] = field(default_factory=dict)
    _signals: list[Seen] = field(default_factory=list)

    def check(self, seen: Seen) -> None:
        """AssertionError if ``seen`` breaks a rule that always holds."""
        if seen.topic == "dead-letter":
            self._dead_letter(seen)
        elif seen.topic == "order-stack":
            self._order_stack(seen)
        elif seen.topic == "order-processing":
            self._order_record(seen, {"orderSize": seen.json.get("orderSize")}, "startTimestamp")
        elif seen.topic == "order-done":
            self._order_record(seen, {}, "endTimestamp")
        elif seen.topic == f"{self.service}-done":
            self._signal(seen)
        elif seen.topic == "pizza-done":
            self._pizza_done(seen)
        else:
            self._pizza(seen)

    def finish(self) -> None:
        """Rules that join two topics, once everything is read: a pizza leaves before its ``-done`` is written."""
        for signal in self._signals:
            pizza = self._handed_on.get(signal.json["pizzaId"])
            assert pizza is not None, f"-done without the pizza's record on the next topic: {signal}"
            self._left_before(pizza, signal)

    def _pizza(self, seen: Seen) -> None:
        pizza_id = self._known_id(seen, "pizzaId")
        self._sender(seen)
        if self.service == "order-processing":
            assert seen.topic == "dough-machine", f"order-processing writes pizzas to dough-machine only: {seen}"
            match(seen.header("at-us") // 1000, seen.json.get("startTimestamp"), f"{seen}: startTimestamp")
        else:
            self._handed_on.setdefault(pizza_id, seen)
        match(_TEXT, seen.json.get("msgDesc"), f"{seen}: msgDesc")

    def _pizza_done(self, seen: Seen) -> None:
        pizza_id = self._known_id(seen, "pizzaId")
        self._sender(seen)
        match({"orderId", "orderSize", "pizzaId", "endTimestamp"} == set(seen.json), True, f"{seen}: exactly 4 fields")
        match(_RECENT, seen.json["endTimestamp"], f"{seen}: endTimestamp")
        source = self._source(pizza_id)
        for name in ("orderId", "orderSize"):
            match(source[name], seen.json[name], f"{seen}: {name}")
        self._handed_on.setdefault(pizza_id, seen)

    def _sender(self, seen: Seen) -> None:
        assert seen.headers.get("from") == self.service, f"header from must be {self.service}: {seen}"
        self._moment(seen, "at-us")

    def _signal(self, seen: Seen) -> None:
        pizza_id = self._known_id(seen, "pizzaId")
        order_id = seen.json.get("orderId")
        match({"pizzaId": pizza_id, "orderId": order_id, "doneMsg": True}, seen.json, str(seen))
        claimed = self._source(pizza_id).get("orderId")
        usable = type(claimed) is int and 1 <= claimed <= MAX_ID
        match(claimed if usable else 0, order_id, f"{seen}: orderId")
        assert seen.headers.get("machine") == self.service, f"header machine must be {self.service}: {seen}"
        if "recovered" in seen.headers:
            assert seen.headers["recovered"] == "true", f"header recovered must be true: {seen}"
            assert not set(TIMES) & set(seen.headers), f"a recovered -done carries no times: {seen}"
            return
        times = [self._moment(seen, name) for name in TIMES]
        assert times == sorted(times), f"arrived <= started <= finished <= handed off: {seen}"
        self._signals.append(seen)

    def _left_before(self, pizza: Seen, signal: Seen) -> None:
        what = f"\n  {pizza}\n  {signal}"
        assert signal.header("finished-us") <= pizza.header("at-us"), f"handed on before work was finished:{what}"
        assert pizza.header("at-us") <= signal.header("handed-off-us"), f"handed off before it was sent:{what}"
        assert pizza.appended_ms * 1000 <= signal.header("handed-off-us"), f"handed off before the broker had it:{what}"
        assert pizza.appended_ms <= signal.appended_ms, f"-done was written before the pizza's record:{what}"
        if pizza.topic == "pizza-done":
            end_ms = signal.header("finished-us") // 1000
            assert pizza.json["endTimestamp"] == end_ms, f"endTimestamp is finished-us in whole milliseconds:{what}"

    def _dead_letter(self, seen: Seen) -> None:
        topic, offset = seen.headers.get("topic", ""), seen.header("offset")
        broken = self.watch.sent(topic, offset)
        assert broken is not None, f"a dead letter of a record that the case did not write: {seen}"
        value = broken.value
        kept = value if value is None else value[:DEAD_LETTER_VALUE_BYTES]
        assert seen.value == kept, f"a dead letter keeps the first 64 KiB of the value: {seen}"
        assert seen.key == broken.key, f"a dead letter keeps the key: {seen}"
        assert seen.headers.get("size") == str(len(value or b"")), f"header size must be {len(value or b'')}: {seen}"
        assert seen.headers.get("machine") == self.service, f"header machine must be {self.service}: {seen}"
        match(_TEXT, seen.headers.get("reason"), f"{seen}: header reason")
        self._moment(seen, "at-us")

    def _order_stack(self, seen: Seen) -> None:
        assert seen.key is None, f"order-stack records have no key: {seen}"
        match({"orderSize", "recipes", "acceptedTimestamp"} == set(seen.json), True, f"{seen}: exactly 3 fields")
        match(_RECENT, seen.json["acceptedTimestamp"], f"{seen}: acceptedTimestamp")
        self._moment(seen, "at-us")

    def _order_record(self, seen: Seen, further: dict[str, Json], moment: str) -> None:
        order_id = self._known_id(seen, "orderId")
        at_ms = self._moment(seen, "at-us") // 1000
        match({"orderId": order_id, **further, moment: at_ms}, seen.json, str(seen))

    def _known_id(self, seen: Seen, name: str) -> int:
        number = seen.json.get(name)
        assert type(number) is int, f"{name} is not a whole number: {seen}"
        assert seen.key == str(number).encode(), f"the key is not the {name}: {seen}"
        return number

    def _moment(self, seen: Seen, name: str) -> int:
        at = seen.header(name)
        assert self.began_us <= at <= now_us(), f"header {name} is not a moment of this case: {seen}"
        return at

    def _source(self, pizza_id: int) -> dict[str, Json]:
        """The first record on the service's own topic that claims this pizza, in its value or else by its key."""
        for sent in self.watch.all_sent():
            if sent.topic == self.service:
                parsed = _object(sent)
                claimed = parsed.get("pizzaId")
                if claimed == pizza_id or (type(claimed) is not int and sent.key == str(pizza_id).encode()):
                    return parsed
        return {}


def _object(sent: Sent) -> dict[str, Json]:
    try:
        parsed = json.loads(sent.value or b"")
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
