import open_clip
import pytest
import torch
from torch import nn

from mm_ovseg.errors import ConfigError, VocabularyError
from mm_ovseg.modeling.backbone.clip import build_clip
from mm_ovseg.modeling.text import TextEmbedder


class CountingTower(nn.Module):
    """Embeds token ids by a table; counts its calls."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(300, 6)
        self.calls = 0

    def forward(self, tokens):
        self.calls += 1
        return self.table(tokens).mean(dim=1)


def tokenize(texts):
    return torch.tensor([[ord(letter) for letter in text.ljust(20)] for text in texts])


def build(templates=("a {}",), synonyms="average"):
    torch.manual_seed(0)
    return TextEmbedder(tower=CountingTower(), tokenizer=tokenize, templates=templates, synonyms=synonyms).eval()


@torch.no_grad()
def test_embeddings_are_normalised_and_cached():
    text = build(templates=("a {}", "the {} seen"))
    embeddings = text(("water", "road", "city"))
    assert embeddings.shape == (2, 3, 6)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2, 3))
    assert text(("water", "road", "city")) is embeddings and text.tower.calls == 1


@torch.no_grad()
def test_another_vocabulary_is_never_answered_from_the_cache():
    text = build()
    first = text(("water", "road"))
    assert not torch.equal(text(("road", "water")), first)
    torch.testing.assert_close(text(("road", "water")), first.flip(1))


@torch.no_grad()
def test_vocabularies_asked_for_before_cost_nothing_up_to_a_size(monkeypatch):
    text, (first, second, third) = build(), (("water", "road"), ("road",), ("sea", "sky"))
    expected = {names: text(names) for names in (first, second)}
    assert all(text(names) is expected[names] for names in (second, first)) and text.tower.calls == 2
    monkeypatch.setattr("mm_ovseg.modeling.text.MAX_CACHE", 4 * 6 * 4)  # bytes of four names
    text(third)  # in the place of what was asked for longest ago
    assert text(first) is expected[first] and text.tower.calls == 3
    assert torch.equal(text(second), expected[second]) and text.tower.calls == 4
    large = tuple("abcdef")
    assert text(large) is text(large) and text.tower.calls == 5 and len(text._cache) == 1


def test_weights_made_in_inference_mode_have_no_cache():
    with torch.inference_mode():
        text = build()
        before = text(("water",))
        text.load_state_dict({name: value + torch.arange(6) for name, value in text.state_dict().items()})
        assert not torch.allclose(text(("water",)), before)
    with torch.no_grad():
        assert torch.equal(text(("water",)), text(("water",))) and text.tower.calls == 4


def test_weights_that_changed_are_never_answered_from_the_cache():
    text = build()
    optimizer = torch.optim.AdamW(text.parameters(), lr=0.1)
    with torch.no_grad():
        before = text(("water",))
    text(("water",)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        after = text(("water",))
        assert not torch.allclose(before, after)
        text(("road",))
        state = {name: value + torch.arange(6) for name, value in text.state_dict().items()}
        text.load_state_dict(state)
        text(("road",))
        assert not torch.allclose(after, text(("water",)))


def test_a_round_of_training_empties_the_cache():
    text = build()
    with torch.no_grad():
        text(("water",))
        text.tower.table.weight.data = torch.randn(300, 6)  # an assignment that no version counter sees
        text.train()
        text.eval()
        torch.testing.assert_close(text(("water",)), text.embed(("water",)))


def test_training_computes_with_gradients():
    text = build().train()
    text(("water",)).sum().backward()
    assert text.tower.table.weight.grad is not None


@torch.no_grad()
def test_synonyms_are_averaged_or_the_first_is_taken():
    average, first = build(), build(synonyms="first")
    separate = average(("water", "river"))[0]
    expected = nn.functional.normalize(separate.mean(dim=0), dim=0)
    torch.testing.assert_close(average(("water, river", "road"))[0, 0], expected)
    torch.testing.assert_close(first(("water, river", "road"))[0, 0], separate[0])
    torch.testing.assert_close(average(("water, river", "road"))[0, 1], average(("road",))[0, 0])


@pytest.mark.parametrize("causal", [True, False])
def test_padding_is_left_out_only_where_the_tower_does_not_see_it(causal, monkeypatch):
    torch.manual_seed(0)
    settings = {"context_length": 32, "width": 64, "heads": 2, "layers": 2, "no_causal_mask": not causal}
    tower, tokenizer = open_clip.transformer.TextTransformer(**settings), open_clip.get_tokenizer("ViT-laptop-4")
    text = TextEmbedder(tower=tower, tokenizer=tokenizer, templates=["a {}", "{} seen"], synonyms="average").eval()
    monkeypatch.setattr("mm_ovseg.modeling.text.TEXTS", 2)
    names, seen = ["water", "a wide road", "city"], []
    handle = tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    ours = text.embed(names)
    handle.remove()
    prompts = [template.replace("{}", name) for template in text.templates for name in names]
    torch.testing.assert_close(ours.flatten(0, 1), nn.functional.normalize(tower(tokenizer(prompts)), dim=-1))
    assert seen == ([(2, 6), (2, 4), (2, 6)] if causal else [(2, 32)] * 3)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_the_same_without_padding(recompute):
    torch.manual_seed(0)
    _, tower, tokenizer = build_clip("ViT-laptop-4", "")
    if recompute:
        tower.set_grad_checkpointing()
    text = TextEmbedder(tower=tower, tokenizer=tokenizer, templates=["a {}"], synonyms="average").train()
    names, gradients, weights = ["water", "a wide road"], [], torch.randn(2, 64)
    prompts = tokenizer([f"a {name}" for name in names])
    for embed in (lambda: text(names)[0], lambda: nn.functional.normalize(tower(prompts), dim=-1)):
        tower.zero_grad()
        (embed() * weights).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in tower.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert tower.attn_mask.shape == (32, 32)  # again


def test_half_precision_is_near_without_padding():
    torch.manual_seed(0)
    _, tower, tokenizer = build_clip("ViT-laptop-4", "")
    text = TextEmbedder(tower=tower, tokenizer=tokenizer, templates=["a {}"], synonyms="average").train()
    exact = text(["water"])
    with torch.autocast("cpu", torch.bfloat16):
        half = text(["water"])
    assert half.dtype == torch.float32 and 0 < (half - exact).abs().max() < 0.02


@pytest.mark.parametrize("templates", [[], ["no place"], ["{} and {}"]])
def test_templates_need_one_place_for_the_name(templates):
    with pytest.raises(ConfigError, match="TEMPLATES"):
        build(templates=templates)


def test_an_unknown_way_with_synonyms_is_refused():
    with pytest.raises(ConfigError, match="SYNONYMS"):
        build(synonyms="last")


# ---------------------------------------------------------------- names that are cut, or that nothing tells apart

LENGTH = 12  # tokens, the two at the ends among them


class FixedEnds:
    """A tokenizer of another kind: a word a token, and the last place of a row is for a token of its own."""

    context_length = LENGTH

    def __call__(self, texts, context_length=None):
        length = context_length or self.context_length
        rows = [[1, *(2 + sum(map(ord, word)) % 250 for word in text.split())][: length - 1] for text in texts]
        return torch.tensor([[*row, *[0] * (length - 1 - len(row)), 299] for row in rows])


TOKENIZERS = {"open_clip": open_clip.SimpleTokenizer(context_length=LENGTH), "fixed ends": FixedEnds()}


def build_limited(kind="open_clip", templates=("a {} seen",), synonyms="average"):
    torch.manual_seed(0)
    tower = CountingTower()
    tower.table = nn.Embedding(49408, 6)
    return TextEmbedder(tower=tower, tokenizer=TOKENIZERS[kind], templates=templates, synonyms=synonyms).eval()


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("training", [False, True])
def test_a_name_that_just_fits_is_read_and_a_longer_one_refused(kind, training):
    text = build_limited(kind).train(training)
    fits = "one two three four five six seven eight"  # with the template 10 tokens of 12
    text((fits, "road"))
    with pytest.raises(VocabularyError, match=rf"'{fits} nine' is longer .*12 tokens, .*the template from 'seen' on"):
        text((f"{fits} nine", "road"))
    with pytest.raises(VocabularyError, match="word 10, 'ten', and what follows would not be read"):
        text(("road", f"{fits} nine ten eleven"))
    assert text((fits, "road")).shape == (1, 2, 6)


def test_every_template_and_every_synonym_that_is_read_counts():
    long, synonym = " ".join(["water"] * 9), "water, " + " ".join(["river"] * 12)
    build_limited(templates=("{}",)).check_length([long])
    with pytest.raises(VocabularyError, match="'a picture of {} from above'"):
        build_limited(templates=("{}", "a picture of {} from above")).check_length([long])
    build_limited(synonyms="first").check_length([synonym])
    with pytest.raises(VocabularyError, match="word 10, 'river'"):
        build_limited().check_length([synonym])


def test_all_names_that_are_cut_are_named_and_letters_without_spaces_count():
    with pytest.raises(VocabularyError) as caught:
        build_limited().check_length(["road", "x " * 20, "水" * 30, "y" * 9 + "!" * 900])
    message = str(caught.value)
    assert message.count("is longer") == 3 and "水" * 30 in message and "word 1, 'yyyy" in message
    assert "road" not in message and len(message) < 2000


def test_a_tokenizer_without_a_length_cuts_nothing():
    build().check_length(["x" * 10])


@pytest.mark.parametrize("names", [
    ("road", "water, river", "river, water"),
    ("w&#97;ter", "road", "water"),  # open_clip's tokenizer reads HTML
    ("ＷＡＴＥＲ", "water"),
])  # fmt: skip
@pytest.mark.parametrize("gradients", [False, True])
def test_names_with_equal_embeddings_are_refused(names, gradients):
    text = build_limited(templates=("a {}", "the {}"))
    with torch.set_grad_enabled(gradients):
        for _ in range(2):
            with pytest.raises(VocabularyError, match="cannot distinguish") as caught:
                text(names)
        assert all(f"'{name}'" in str(caught.value) for name in names if name != "road")
        assert "road" not in str(caught.value)
        assert text(("road", "water")).shape == (2, 2, 6)


@torch.no_grad()
def test_names_that_one_template_tells_apart_are_two():
    text = build_limited(templates=("a {}", "the {}"))
    embed = text.embed
    text.embed = lambda names: torch.cat([embed(names)[:1, :1].expand(-1, 2, -1), embed(names)[1:]])
    assert text(("road", "water")).shape == (2, 2, 6)
    text.embed = lambda names: embed(names)[:, :1].expand(-1, 2, -1) + torch.tensor([[[0.0], [1e-7]]])
    with pytest.raises(VocabularyError, match="'road' = 'river'"):
        text(("road", "river"))
