"""Stored embeddings of a frozen encoder: their speed relative to the encoder alone, and reading them again.

Both sides encode the same clips in the same batches, alternately; what storing adds is reading and scaling
samples, rounding to float16, writing, and the digest. CPU seconds are compared, too, because other work on
the machine does not change them.
"""

import statistics
import time

import torch
from synthetic import noise_data

from asdbench.data import embeddings, feature_store
from asdbench.data.embeddings import ClipEncoder
from asdbench.nn import encoders
from asdbench.spec import EncoderSpec
from asdbench.testing.encoders import random_state

CLIPS, ROUNDS = 16, 5
NAME = "ced-tiny"


def timed(work) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    network = encoders.load(NAME, random_state(NAME, small=False))
    encoder = ClipEncoder(network, EncoderSpec(NAME))
    with noise_data(types=1, training_clips=CLIPS) as data:
        embeddings.clip_encoder = lambda *_, **__: encoder
        rows = [
            shard.clip(int(i)) for shard in [feature_store.waveforms(data, "type0")] for i in shard.clip_ids
        ]
        waveform = torch.from_numpy(rows[0].copy()).float().div_(32768).repeat(4, 1)
        path = embeddings.embeddings_path(data, "type0", encoder.spec)

        @torch.inference_mode()
        def alone() -> None:
            for _ in range(0, len(rows), 4):
                network(waveform, [network.depth])

        def store() -> None:
            path.unlink(missing_ok=True)
            embeddings.embeddings(data, "type0", encoder.spec)

        alone()
        pairs = [(timed(alone), timed(store)) for _ in range(ROUNDS)]
        for kind, which in (("wall", 0), ("CPU", 1)):
            ratio = statistics.median(one[which] / other[which] for one, other in pairs)
            print(
                f"{NAME}, {len(rows)} clips: stored at {ratio:.1%} of the encoder's own speed ({kind} time)"
            )
        wall, _ = timed(lambda: feature_store.stored(path).rows.astype("float32").sum())
        print(
            f"read again: {len(rows) / wall:.0f} clips/s, {path.stat().st_size / len(rows) / 1e6:.2f} MB each"
        )


if __name__ == "__main__":
    main()
