from pathlib import Path

import pytest

from harness.errors import MissingTool
from harness.stacks.java import find_java, find_kafka


def make_java(home: Path, release: str | None, told: str = "") -> None:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    program.chmod(0o755)
    if release is not None:
        (home / "release").write_text(release)


def make_jars(directory: Path, *names: str) -> None:
    (directory / "libs").mkdir()
    for name in names:
        (directory / "libs" / name).write_bytes(b"")


def test_java_home_decides_which_java_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_java(tmp_path, 'IMPLEMENTOR="Debian"\nJAVA_VERSION="21.0.2"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    java = find_java()
    assert (java.program, java.version) == (tmp_path / "bin" / "java", "21.0.2")


def test_a_java_without_a_release_file_is_asked_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_java(tmp_path, None, 'openjdk version "17.0.15" 2025-04-15')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java().version == "17.0.15"


@pytest.mark.parametrize("version", ["11.0.20", "1.8.0_392"])
def test_an_old_java_is_refused_naming_its_version(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_java(tmp_path, f'JAVA_VERSION="{version}"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(MissingTool, match=f"needs Java 17 or newer; .* is {version}"):
        find_java()


def test_a_missing_java_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="there is none on PATH") as caught:
        find_java()
    assert "openjdk-17-jdk-headless" in caught.value.hint


def test_missing_jars_say_which_command_gets_them(tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match="the jars of Apache Kafka are not in") as caught:
        find_kafka(tmp_path)
    assert "make setup" in caught.value.hint


def test_jars_are_sorted_and_tell_kafkas_version(tmp_path: Path) -> None:
    make_jars(tmp_path, "zstd.jar", "kafka_2.13-4.3.1.jar", "argparse4j.jar")
    jars = find_kafka(tmp_path)
    assert [file.name for file in jars.files] == ["argparse4j.jar", "kafka_2.13-4.3.1.jar", "zstd.jar"]
    assert jars.version == "4.3.1"


def test_jars_of_two_versions_are_refused(tmp_path: Path) -> None:
    make_jars(tmp_path, "kafka_2.13-4.3.1.jar", "kafka_2.13-4.1.0.jar")
    with pytest.raises(MissingTool, match=r"several versions of Apache Kafka: 4\.1\.0, 4\.3\.1"):
        find_kafka(tmp_path)


def test_the_fingerprint_changes_with_a_jar(tmp_path: Path) -> None:
    make_jars(tmp_path, "kafka_2.13-4.3.1.jar")
    before = find_kafka(tmp_path).fingerprint()
    assert find_kafka(tmp_path).fingerprint() == before
    (tmp_path / "libs" / "kafka_2.13-4.3.1.jar").write_bytes(b"other")
    assert find_kafka(tmp_path).fingerprint() != before
