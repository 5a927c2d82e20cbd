"""Import of torchaudio that also works with a CPU build of torch.

The wheel of torchaudio 2.11 for Linux is linked to CUDA. With a CPU build of torch, loading its extension
raises ``OSError``. asdbench uses nothing of the extension, so on that error an empty module replaces it and
the import is repeated. All of asdbench imports torchaudio from this module.
"""

import sys
import types
from collections.abc import Callable


def _import() -> types.ModuleType:
    try:
        import torchaudio
    except OSError:
        for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
            del sys.modules[name]
        extension = types.ModuleType("torchaudio._extension")
        vars(extension).update(
            _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=_without_align
        )
        sys.modules["torchaudio._extension"] = extension
        import torchaudio
    import torchaudio.functional
    import torchaudio.transforms

    module: types.ModuleType = torchaudio
    return module


def _without_align(function: Callable[..., object]) -> Callable[..., object]:
    def fail(*args: object, **kwargs: object) -> object:
        raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension, which did not load")

    return fail


torchaudio = _import()
