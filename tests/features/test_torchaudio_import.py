import subprocess
import sys

BROKEN_EXTENSION = """
import importlib.abc, importlib.machinery, sys

class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name == "torchaudio._extension":
            return importlib.machinery.ModuleSpec(name, self)
    def exec_module(self, module):
        raise OSError("libcudart.so.13: cannot open shared object file")

sys.meta_path.insert(0, Broken())
from asdbench.features.torchaudio_import import torchaudio
print(tuple(torchaudio.functional.melscale_fbanks(5, 0.0, 8000.0, 2, 16000).shape))
"""


def test_torchaudio_works_without_its_extension() -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN_EXTENSION], capture_output=True, text=True)
    assert done.stdout.strip() == "(5, 2)", done.stderr
