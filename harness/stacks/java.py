"""The Java runtime and the jars of Apache Kafka on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.errors import MissingTool
from harness.line import ROOT

OLDEST_JAVA = 17
KAFKA_DIR = ROOT / ".kafka"
"""Where ``make setup`` puts the jars, and where what was made from them is kept (class-data archive, formats)."""

_VERSION = re.compile(r'version "([^"]+)"|JAVA_VERSION="([^"]+)"')


@dataclass(frozen=True)
class Java:
    """A Java runtime: its program and its version as it tells it, such as ``17.0.15``."""

    program: Path
    version: str


@dataclass(frozen=True)
class KafkaJars:
    """The resolved jars, sorted so that every start has the same class path, and Kafka's version."""

    files: tuple[Path, ...]
    version: str

    @property
    def class_path(self) -> str:
        return os.pathsep.join(map(str, self.files))

    def fingerprint(self) -> str:
        """Changes whenever any jar's name, size or modification time does."""
        facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        return hashlib.sha256(repr((str(self.files[0].parent), facts)).encode()).hexdigest()[:12]


def find_java() -> Java:
    """JAVA_HOME's Java, else the one on PATH. Raises MissingTool when there is none or it is older than 17."""
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if found is None or not os.access(found, os.X_OK):
        where = f"at JAVA_HOME ({home})" if home else "on PATH"
        raise MissingTool(
            f"Apache Kafka needs Java {OLDEST_JAVA} or newer, and there is none {where}",
            hint="Install a JDK (Debian: apt-get install openjdk-17-jdk-headless) or set JAVA_HOME to one.",
        )
    version = _java_version(Path(found))
    if int(version.split(".")[0]) < OLDEST_JAVA:
        raise MissingTool(
            f"Apache Kafka needs Java {OLDEST_JAVA} or newer; {found} is {version}",
            hint="Set JAVA_HOME to a newer JDK (Debian: apt-get install openjdk-17-jdk-headless).",
        )
    return Java(Path(found), version)


def find_kafka(directory: Path = KAFKA_DIR) -> KafkaJars:
    """The jars under ``directory``/libs. Raises MissingTool, naming the command that gets them."""
    files = tuple(sorted((directory / "libs").glob("*.jar")))
    versions = [match[1] for file in files if (match := re.fullmatch(r"kafka_2\.13-(.+)\.jar", file.name)) is not None]
    if not versions:
        raise MissingTool(f"the jars of Apache Kafka are not in {directory / 'libs'}", hint="Run: make setup")
    if len(versions) > 1:
        raise MissingTool(
            f"{directory / 'libs'} holds several versions of Apache Kafka: {', '.join(versions)}",
            hint=f"Run: rm -r {directory} && make setup",
        )
    return KafkaJars(files, versions[0])


def _java_version(program: Path) -> str:
    """From the runtime's ``release`` file, which costs nothing; else from the runtime itself (~0.1 s)."""
    release = program.resolve().parent.parent / "release"
    text = release.read_text() if release.is_file() else ""
    match = _VERSION.search(text)
    if match is None:
        told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=30)
        match = _VERSION.search(told.stderr)
    version = (match[1] or match[2]) if match is not None else ""
    if not version[:1].isdigit():
        raise MissingTool(f"{program} does not tell its version", hint="Set JAVA_HOME to a working JDK.")
    return version
