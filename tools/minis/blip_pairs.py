"""BLIP's networks for statements about two pictures and for dialogs, which are our own modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from evalkit.demo.world.captions import captions
from evalkit.demo.world.dialogs import ROUNDS, longer, pool
from evalkit.demo.world.questions import questions
from evalkit.demo.world.statements import claim
from evalkit_adapters._blip_images import heads
from evalkit_adapters._blip_nlvr2 import BlipForNlvr2
from evalkit_adapters._blip_visdial import BlipForVisdial
from evalkit_adapters.blip_inputs import clean_caption
from tools.minis.blip import config, fill, pad, take
from tools.minis.training import Schedule

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from evalkit.demo.world.scenes import Scene
    from tools.minis.blip import Words
    from tools.minis.material import Material

NLVR2: Final = Schedule(steps=1800, rate=1.5e-3, slower=("vision_model.",))
VISDIAL: Final = Schedule(steps=1500, rate=1.5e-3, slower=("vision_model.",))
_TRIES: Final = 60


def build_nlvr2(words: Words, retrieval: dict[str, Tensor]) -> BlipForNlvr2:
    """Begun with retrieval's tower and text encoder; both images are asked by what asked the one."""
    model = BlipForNlvr2(config(words))
    begun = take(retrieval, ("vision_model.", "vision_model."))
    for name, tensor in take(retrieval, ("text_encoder.", "text_encoder.")).items():
        if ".crossattention.self." in name:
            begun |= {name.replace(".self.", f".self{side}."): tensor for side in (0, 1)}
        elif ".crossattention.output.dense." in name:
            begun |= {name.replace(".dense.", f".dense{side}."): tensor for side in (0, 1)}
        else:
            begun[name] = tensor
    fill(model, begun)
    return model


class StatementLoss:
    """True or false, as many of one as of the other."""

    batch: Final = 128

    def __init__(self, material: Material, words: Words) -> None:
        self._material = material
        self._words = words

    def __call__(self, model: Any, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        lefts: list[int] = []
        rights: list[int] = []
        texts: list[str] = []
        truths: list[int] = []
        while len(texts) < self.batch:
            text, holds = claim(rng)
            wanted = rng.random() < 0.5
            pair = self._pair(rng, holds, wanted)
            if pair is not None:
                lefts.append(pair[0])
                rights.append(pair[1])
                texts.append(text)
                truths.append(int(wanted))
        states = model.vision_model(pixel_values=self._material.pictures(lefts + rights)).last_hidden_state
        logits = judge(
            model, states[: self.batch], states[self.batch :], [self._words.encode(one, "[ENC]") for one in texts]
        )
        truth = torch.tensor(truths)
        return functional.cross_entropy(logits, truth), f"judged: {(logits.argmax(1) == truth).float().mean():.2f}"

    def _pair(self, rng: random.Random, holds: Callable[[Scene, Scene], bool], wanted: bool) -> tuple[int, int] | None:
        scenes = self._material.scenes
        for _ in range(_TRIES):
            left, right = rng.randrange(len(scenes)), rng.randrange(len(scenes))
            if holds(scenes[left], scenes[right]) == wanted:
                return left, right
        return None


def judge(model: Any, left: Tensor, right: Tensor, token_ids: list[tuple[int, ...]]) -> Tensor:
    """(n, 2) logits of "false" and "true"; as `BlipNlvr2Network.logits`, for training: one pair a text."""
    ids, mask = pad(token_ids)
    hidden = model.text_encoder.embeddings(ids, position_ids=torch.arange(ids.shape[1])[None])
    for layer in model.text_encoder.encoder["layer"]:
        hidden = layer.attention.output(_attend(layer.attention.self, hidden, hidden, mask.bool()), hidden)
        cross = layer.crossattention
        gave = [_attend(one, hidden, states) for one, states in ((cross.self0, left), (cross.self1, right))]
        hidden = cross.output(*gave, hidden)
        hidden = layer.output(layer.intermediate(hidden), hidden)
    logits: Tensor = model.cls_head(hidden[:, 0])
    return logits


def _attend(attention: Any, asking: Tensor, asked: Tensor, visible: Tensor | None = None) -> Tensor:
    queries, keys, values = (
        heads(project(rows), attention.num_attention_heads)
        for project, rows in ((attention.query, asking), (attention.key, asked), (attention.value, asked))
    )
    mask = None if visible is None else visible[:, None, None, :]
    context = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return context.transpose(1, 2).flatten(2)


def build_visdial(words: Words, retrieval: dict[str, Tensor]) -> BlipForVisdial:
    """Begun with all of retrieval but the projections of its embeddings."""
    model = BlipForVisdial(config(words))
    parts = ("vision_model.", "text_encoder.", "itm_head.")
    fill(model, take(retrieval, *((part, part) for part in parts)))
    return model


class DialogLoss:
    """The true answer among untrue ones: by softmax over them, of the log-odds that each is a match.

    Early rounds come oftener than late ones, whose texts are long.
    """

    dialogs: Final = 24
    others: Final = 7
    """Untrue candidates of a round."""

    def __init__(self, material: Material, words: Words) -> None:
        self._material = material
        self._words = words

    def __call__(self, model: Any, rng: random.Random) -> tuple[Tensor, str]:
        """See `Loss`."""
        numbers = rng.choices(range(len(self._material.scenes)), k=self.dialogs)
        scenes = [self._material.scenes[number] for number in numbers]
        states = model.vision_model(pixel_values=self._material.pictures(numbers)).last_hidden_state
        ids, mask = pad([self._words.encode(clean_caption(captions(scene, rng, 1)[0])) for scene in scenes])
        told = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        memory = torch.cat([states, told], dim=1)
        seen = torch.cat([torch.ones(states.shape[:2], dtype=mask.dtype), mask], dim=1)
        texts = [text for scene in scenes for text in self._candidates(scene, rng)]
        ids, mask = pad([self._words.encode(clean_caption(text, None), "[ENC]") for text in texts])
        owners = torch.arange(len(numbers)).repeat_interleave(1 + self.others)
        hidden = model.text_encoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=memory[owners],
            encoder_attention_mask=seen[owners],
        ).last_hidden_state
        logits = model.itm_head(hidden[:, 0])
        odds = (logits[:, 1] - logits[:, 0]).view(len(numbers), -1)
        truth = torch.zeros(len(numbers), dtype=torch.long)
        loss = functional.cross_entropy(odds, truth)
        # and each by itself, so that the number says what a match is
        alone = functional.binary_cross_entropy_with_logits(
            odds, functional.one_hot(truth, odds.shape[1]).to(odds.dtype)
        )
        return loss + alone, f"chosen: {(odds.argmax(1) == truth).float().mean():.2f}"

    def _candidates(self, scene: Scene, rng: random.Random) -> list[str]:
        """A dialog with the true answer at its end, then with untrue ones, most of them of the question's kind."""
        count = 1 + min(rng.randrange(ROUNDS), rng.randrange(ROUNDS))
        asked = list(questions(scene, rng, count))
        asked += rng.choices(asked, k=count - len(asked))
        *past, last = asked
        near = rng.sample(last.wrong, min(len(last.wrong), self.others - 3))
        near.append(rng.choice(longer(rng.choice([last.answer, *near]))))
        taken = {last.answer, *near}
        rest = [one for one in rng.sample(pool(), self.others + len(taken)) if one not in taken]
        chosen = [last.answer, *near, *rest][: 1 + self.others]
        before = "".join(f"{one.text} {one.answer}. " for one in past)
        return [f"{before}{last.text} {option}" for option in chosen]
