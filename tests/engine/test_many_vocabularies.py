import torch
from torch import nn

from mm_ovseg.engine.many_vocabularies import ManyVocabularies


class Lengths(nn.Module):
    """A model whose score of a name is its length."""

    vocabulary = ("a", "bb")

    def set_vocabulary(self, names):
        self.vocabulary = tuple(names)

    def forward(self, items):
        lengths = torch.tensor([len(name) for name in self.vocabulary], dtype=torch.float32)
        return [{"sem_seg": lengths[:, None, None].expand(-1, *item["size"])} for item in items]


def test_a_model_is_asked_for_other_names_too_and_keeps_its_own():
    model = Lengths().eval()
    asked = ManyVocabularies(model, {"single": [["ccc"], ["dddd"]], "more": [["a", "bb", "eeeee"]]})
    assert not asked.training and not model.training
    outputs = asked([{"size": (2, 3)}, {"size": (1, 1)}])
    assert [tuple(output["sem_seg"].shape) for output in outputs] == [(2, 2, 3), (2, 1, 1)]
    assert outputs[0]["sem_seg"][:, 1, 2].tolist() == [1, 2]
    assert outputs[0]["single"][:, 1, 2].tolist() == [3, 4] and outputs[1]["more"][:, 0, 0].tolist() == [1, 2, 5]
    assert model.vocabulary == ("a", "bb")
