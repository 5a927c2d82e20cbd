"""torchaudio, imported so that it also works beside a CPU build of torch.

The wheel of torchaudio 2.11 for Linux is linked to CUDA. Beside a CPU torch, loading its extension fails
with ``OSError``. The extension holds nothing that asdbench uses, so on that error a module without it takes
its place and the import is repeated. All of asdbench imports torchaudio from here.
"""

import sys
import types
from collections.abc import Callable
from typing import Any


def _import() -> Any:
    try:
        import torchaudio
    except OSError:
        for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
            del sys.modules[name]
        extension: Any = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = _without_align
        sys.modules["torchaudio._extension"] = extension
        import torchaudio
    import torchaudio.functional
    import torchaudio.transforms

    return torchaudio


def _without_align(function: Callable[..., Any]) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension, which did not load")

    return fail


torchaudio = _import()
