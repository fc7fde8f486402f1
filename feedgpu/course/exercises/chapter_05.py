"""The exercise of chapter 05: what is asked of an answer."""

import torch

from ..verdicts import exercise, short


class Batch(torch.Tensor):
    "Is a plain tensor once it was sent to a device: so a model can see whether it was."

    def to(self, *args, **kwargs):
        return self.as_subclass(torch.Tensor).to(*args, **kwargs)


class Labels(Batch):
    "Labels that note it if they are used before they were sent to a device"

    used = False

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in USES:
            Labels.used = True
        return super().__torch_function__(function, types, args, kwargs or {})


USES = {torch.eq, torch.ne, torch.sub} | {
    getattr(torch.Tensor, name) for name in ("eq", "__eq__", "ne", "__ne__", "sub", "__sub__", "__rsub__")
}


class Probe(torch.nn.Module):
    "Says of each sample the class that is written in it; keeps how it was asked."

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.asked = []

    def forward(self, X):
        self.asked.append((self.training, isinstance(X, Batch), torch.is_grad_enabled()))
        return torch.nn.functional.one_hot(X[:, 0].long(), 4) * self.scale


@exercise
def evaluate(answer):
    "exact with a small last batch, in eval mode, on the device, without a graph, and the mode comes back"
    said = torch.tensor([[0], [1], [2], [3], [0], [1], [2], [3], [0]])
    labels = torch.tensor([0, 1, 3, 2, 0, 2, 3, 0, 0])  # right are 2 of 4, 1 of 4 and 1 of 1

    def collate(samples):
        X, y = map(torch.stack, zip(*samples, strict=True))
        return [X.as_subclass(Batch), y.as_subclass(Labels)]

    samples = torch.utils.data.TensorDataset(said, labels)
    generator = torch.utils.data.DataLoader(samples, batch_size=4, collate_fn=collate)
    for training in (True, False):
        model, Labels.used = Probe().train(training), False
        given = answer(model, generator, torch.device("cpu"))
        if len(model.asked) != 3:
            return f"expected the model to be asked about 3 batches, you asked it {len(model.asked)} times"
        in_train_mode, left_behind, with_graph = (any(was) for was in zip(*model.asked, strict=True))
        if in_train_mode:
            return (
                "expected a model in eval mode, you asked it in train mode, where a sample's answer "
                "depends on the others of its batch: model.eval() comes first"
            )
        if left_behind:
            return (
                "expected batches on the device, the model was given one that never went there: a model "
                "on a GPU refuses it; .to(device) returns the tensor to use"
            )
        if Labels.used:
            return (
                "expected labels on the device, yours were compared before they went there: on a GPU the "
                "model's answers lie there, and two devices cannot be compared"
            )
        if with_graph:
            return (
                "expected no graph, but gradients were on while the model answered: each batch's operations "
                "were kept for a backward() that never comes; torch.inference_mode() turns them off"
            )
        if not isinstance(given, (int, float, torch.Tensor)):
            return f"expected a number, you gave {short(given)}"
        if abs(given - 4 / 9) > 1e-6:
            mistakes = [
                (7 / 12, "that is the mean of the batches' means, where the last sample counts for four"),
                (4 / 12, "you divide by three full batches, but the last one holds 1 sample"),
                (4, "that is their number: divide it by that of the samples"),
                (400 / 9, "that is in percent"),
            ]
            why = [why for wrong, why in mistakes if abs(given - wrong) < 1e-4]
            why = why[0] if why else "add up right answers and samples"
            return f"expected 4 of 9 right answers, {4 / 9:.4f}, you gave {float(given):.4f}: {why}"
        if model.training != training:
            came, left = ("train", "eval") if training else ("eval", "train")
            return (
                f"the share is right, but a model that came in {came} mode was left in {left} mode: keep "
                "model.training before you change it, and give it back to model.train()"
            )
