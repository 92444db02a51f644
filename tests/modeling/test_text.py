import pytest
import torch
from torch import nn

from mm_ovseg.errors import ConfigError
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
        state = {name: value + 1 for name, value in text.state_dict().items()}
        text.load_state_dict(state)
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


@pytest.mark.parametrize("templates", [[], ["no place"], ["{} and {}"]])
def test_templates_need_one_place_for_the_name(templates):
    with pytest.raises(ConfigError, match="TEMPLATES"):
        build(templates=templates)


def test_an_unknown_way_with_synonyms_is_refused():
    with pytest.raises(ConfigError, match="SYNONYMS"):
        build(synonyms="last")
