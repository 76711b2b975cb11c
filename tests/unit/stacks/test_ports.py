import os
import socket
from pathlib import Path

import pytest

from harness.errors import StackError
from harness.stacks.ports import HOST, chosen_port, free_port, is_free


def test_a_taken_port_is_refused_naming_its_holder_and_how_to_move_it() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StackError) as caught:
            chosen_port(port, "the order API", "--orders-port")
    assert f"port {port}, wanted for the order API, is taken by process" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert "--orders-port" in caught.value.hint


def test_a_free_port_is_taken_as_given() -> None:
    port = free_port()
    assert chosen_port(port, "Kafka", "--kafka-port") == port


def test_zero_takes_a_free_port_that_no_outgoing_connection_can_take() -> None:
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = chosen_port(0, "Kafka", "--kafka-port")
    assert is_free(port)
    assert port < lowest_outgoing


def test_a_port_in_time_wait_counts_as_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            accepted, _address = server.accept()
            accepted.close()  # the server's side closes first and stays in TIME_WAIT
            assert client.recv(1) == b""
    assert is_free(port)
