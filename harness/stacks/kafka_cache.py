"""What the first start of the broker keeps under ``.kafka`` so that later ones are quicker; it can be deleted."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

from harness.errors import StackError
from harness.stacks.java import Java, KafkaJars

FORMAT_TIMEOUT_S = 60.0


def format_storage(data_dir: Path, properties_file: Path, java: Java, jars: KafkaJars, cache_dir: Path) -> None:
    """Make ``data_dir`` the empty storage of a new cluster with an id of its own.

    Kafka's own tool does it once per version (1.4 s); later calls copy its files and change the cluster id.
    Raises StackError with the tool's words when it refuses.
    """
    template = cache_dir / "formatted" / jars.version
    if not (template / "meta.properties").exists():
        _run_storage_tool(data_dir, properties_file, java, jars)
        _keep_folder(data_dir, template)
        return
    shutil.copytree(template, data_dir, dirs_exist_ok=True)
    meta = data_dir / "meta.properties"
    meta.write_text(re.sub(r"(?m)^cluster\.id=.*$", f"cluster.id={_new_cluster_id()}", meta.read_text()))


def _run_storage_tool(data_dir: Path, properties_file: Path, java: Java, jars: KafkaJars) -> None:
    tool = ("kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(properties_file))
    command = (str(java.program), "-XX:TieredStopAtLevel=1", "-cp", jars.class_path, *tool)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FORMAT_TIMEOUT_S)
    if done.returncode != 0:
        words = "\n  | ".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise StackError(f"Kafka's storage in {data_dir} could not be formatted:\n  | {words}")


def _keep_folder(folder: Path, template: Path) -> None:
    template.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=template.parent) as beside:
        copy = Path(beside, "copy")
        shutil.copytree(folder, copy)
        with suppress(OSError):  # another start was quicker
            copy.rename(template)


def _new_cluster_id() -> str:
    """A random id in Kafka's spelling: 16 bytes, base64 for URLs, 22 characters, not starting with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


class ClassArchive:
    """The class-data archive of one Java and one set of jars: loaded classes that a later start maps in.

    The first broker that ends in order writes it (``options`` asks for that, ``keep`` puts it in place).
    Java checks it against the class path, and does without it when it does not fit.
    """

    def __init__(self, java: Java, jars: KafkaJars, cache_dir: Path) -> None:
        folder = cache_dir / "classes"
        self._file = folder / f"java-{java.version}-{jars.fingerprint()}.jsa"
        self._new = folder / f"{self._file.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
        self.being_made = not self._file.exists()

    def options(self) -> tuple[str, ...]:
        """What to tell Java: use the archive, or make it at the end of this run."""
        if not self.being_made:
            return (f"-XX:SharedArchiveFile={self._file}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        return (f"-XX:ArchiveClassesAtExit={self._new}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")

    def keep(self) -> None:
        """Call when the broker has ended: puts a freshly made archive where the next start finds it."""
        if self.being_made and self._new.exists():
            self._new.replace(self._file)
