"""The training of the miniatures: it goes on where it was stopped, and its words are single tokens."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent


@pytest.fixture
def minis(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(ROOT)
    names = ("training", "words", "mutations", "eyes", "blip", "material")
    return {name: importlib.import_module(f"tools.minis.{name}") for name in names}


class Interrupted(Exception):
    pass


def test_a_training_that_was_stopped_gives_what_an_undisturbed_one_gives(
    minis: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = minis["training"]
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    schedule = training.Schedule(steps=8, rate=0.1)
    calls: list[int] = []

    def loss(model: nn.Module, rng: random.Random) -> tuple[Tensor, str]:
        calls.append(len(calls))
        if stopped and len(calls) == 5:
            raise Interrupted
        return ((model(torch.tensor([[rng.random(), 1.0]])) - rng.random()) ** 2).mean(), ""

    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(2, 1)

    stopped = False
    whole = model()
    training.train("whole", whole, loss, schedule, work=tmp_path, seed=3)
    first = whole.state_dict()
    (tmp_path / "whole.pt").unlink()
    calls.clear()
    stopped = True
    with pytest.raises(Interrupted):
        training.train("whole", model(), loss, schedule, work=tmp_path, seed=3)
    stopped = False
    calls.clear()
    again = model()
    done = training.train("whole", again, loss, schedule, work=tmp_path, seed=3)
    assert len(calls) == 4  # those that were left
    assert done.steps == 8
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, first[name], rtol=0, atol=0)


def test_every_word_of_the_world_is_one_token(minis: dict[str, ModuleType]) -> None:
    words = minis["words"]
    clip = words.clip_tokenizer()
    told = "a small red circle to the left of a large orange square on a striped background"
    assert clip.convert_ids_to_tokens(clip(told).input_ids)[1:-1] == [f"{word}</w>" for word in told.split()]
    assert clip.decode(clip(told).input_ids, skip_special_tokens=True) == told
    pieces = minis["blip"].Words()
    assert pieces.ids["[UNK]"] not in pieces.encode(told)
    assert len(pieces.encode(told)) == len(told.split()) + 2


def test_an_untrue_caption_is_none_of_the_scene(minis: dict[str, ModuleType]) -> None:
    from evalkit.demo.world.captions import captions
    from evalkit.demo.world.scenes import generator, sample_scene

    for number in range(200):
        rng = generator(0, "untrue", number)
        scene = sample_scene(rng, "train")
        told = frozenset(captions(scene, rng, 7))
        assert minis["mutations"].untrue_caption(scene, told, rng) not in told


def test_clips_tower_begins_with_the_weights_of_blips(minis: dict[str, ModuleType]) -> None:
    eyes = minis["eyes"]
    torch.manual_seed(0)
    one, other = eyes.blip_eyes().tower.eval(), eyes.clip_eyes().tower.eval()
    state = one.state_dict()
    state = {name: torch.randn(tensor.shape) * 0.2 for name, tensor in state.items()}
    one.load_state_dict(state)
    other.load_state_dict(eyes.to_clip(state), strict=False)
    other.pre_layrnorm = nn.Identity()  # the one part that BLIP's has not
    pixels = torch.randn(2, 3, 48, 48)
    for model in (one, other):
        for layer in model.encoder.layers:
            layer.layer_norm1.eps = layer.layer_norm2.eps = 1e-6
        model.post_layernorm.eps = 1e-6
    seen = one(pixel_values=pixels).last_hidden_state
    patches = one.post_layernorm(other(pixel_values=pixels).last_hidden_state)
    torch.testing.assert_close(patches[:, 1:], seen[:, 1:], atol=1e-3, rtol=1e-3)
