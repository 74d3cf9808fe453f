"""What the core reads of modules: every kind of change is seen, and nothing else is taken for one."""

import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ladderseg_fast import _core
from ladderseg_fast.lean.step_facts import addresses_of


class Part(nn.Module):
    def forward(self) -> None:
        raise NotImplementedError


class Other(Part):
    pass


def make_tree() -> nn.Module:
    root = Part()
    root.first = nn.Conv2d(2, 3, 1)
    root.second = nn.BatchNorm2d(3)
    root.third = None
    return root


def facts_of(root: nn.Module, called: bool = True) -> _core.ModuleFacts:
    below = [module for module in root.modules() if module is not root]
    return _core.ModuleFacts(
        root,
        below,
        called,
        methods=["forward", "missing"],
        empty=["_forward_hooks"],
        absent=["extra"],
        children="_modules",
        tables=["_parameters", "_buffers"],
        kinds=[([], False), (["stride", "missing"], True), (["eps"], True)],
    )


def names_of(tensors: list[torch.Tensor], root: nn.Module) -> list[str]:
    names = {id(tensor): name for name, tensor in root.state_dict(keep_vars=True).items()}
    return [names[id(tensor)] for tensor in tensors]


def test_tensors() -> None:
    root = make_tree()
    found = facts_of(root).tensors(root)
    assert names_of(found, root) == [
        "first.weight",
        "first.bias",
        "second.weight",
        "second.bias",
        "second.running_mean",
        "second.running_var",
        "second.num_batches_tracked",
    ]
    root.first.weight = nn.Parameter(torch.ones(5))
    assert facts_of(root).tensors(root)[0] is root.first.weight


def replaced_child(root: nn.Module) -> None:
    root.second = nn.BatchNorm2d(3)


def renamed_child(root: nn.Module) -> None:
    root._modules = {"other" if name == "first" else name: child for name, child in root._modules.items()}


def reordered_children(root: nn.Module) -> None:
    root._modules["first"] = root._modules.pop("first")


def reordered_in_an_ordered_dict(root: nn.Module) -> None:
    root._modules.move_to_end("first")  # the order of the dictionary in it stays


def filled_place(root: nn.Module) -> None:
    root.third = nn.ReLU()


def list_changed_in_place(root: nn.Module) -> None:
    root.first.stride[:] = [2, 2]


def lost_attribute(root: nn.Module) -> None:
    del root.second.eps


def other_class(root: nn.Module) -> None:
    root.__class__ = Other


def hook(root: nn.Module) -> None:
    root.first.register_forward_hook(lambda *arguments: None)


def attribute_of_its_own(root: nn.Module) -> None:
    root.second.extra = 1


def another_attribute(root: nn.Module) -> None:
    root.second.surplus = 1


def no_bias(root: nn.Module) -> None:
    root.first.bias = None


def no_buffer(root: nn.Module) -> None:
    root.second.running_mean = None


def another_buffer(root: nn.Module) -> None:
    root.second.register_buffer("mask", torch.ones(1))


def no_dictionary(root: nn.Module) -> None:
    root.first.__dict__["_parameters"] = None


@pytest.mark.parametrize(
    "edit",
    [
        replaced_child,
        renamed_child,
        reordered_children,
        reordered_in_an_ordered_dict,
        filled_place,
        list_changed_in_place,
        lost_attribute,
        other_class,
        hook,
        attribute_of_its_own,
        another_attribute,
        no_bias,
        no_buffer,
        another_buffer,
        no_dictionary,
    ],
    ids=lambda edit: edit.__name__,
)
def test_edits_are_seen(edit: Callable[[nn.Module], None]) -> None:
    root = make_tree()
    root.first.stride = [1, 1]
    if edit is reordered_in_an_ordered_dict:
        root._modules = OrderedDict(root._modules)
    facts = facts_of(root)
    assert facts.tensors(root) is not None
    edit(root)
    assert facts.tensors(root) is None


def test_patched_method(monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_tree()
    root.__class__ = Other
    facts = facts_of(root)
    monkeypatch.setattr(Part, "forward", lambda self: None)
    assert facts.tensors(root) is None


def test_what_is_no_edit() -> None:
    """Equal values, equal names, and what a root that has been called may have of its own."""
    root = make_tree()
    facts = facts_of(root)
    root.first.stride = tuple(int(value) for value in "11")
    root._modules = {"".join(name): child for name, child in root._modules.items()}
    root.register_forward_hook(lambda *arguments: None)
    root.surplus = root.extra = 1
    root.first.weight = nn.Parameter(torch.ones(7))
    assert facts.tensors(root) is not None
    called = facts_of(root, called=False)
    root.another = 1
    assert called.tensors(root) is None and facts.tensors(root) is not None


def test_a_comparison_that_fails_is_reported() -> None:
    class Unequal:
        def __eq__(self, other: object) -> bool:
            raise ArithmeticError("no answer")

        __hash__ = None

    root = make_tree()
    facts = facts_of(root)
    root.first.stride = Unequal()
    with pytest.raises(ArithmeticError, match="no answer"):
        facts.tensors(root)


def test_the_root_is_not_kept_alive() -> None:
    root = make_tree()
    facts, reference = facts_of(root), weakref.ref(root)
    below = weakref.ref(root.first)
    del root
    gc.collect()
    assert reference() is None and below() is not None
    del facts
    gc.collect()
    assert below() is None


def test_tensors_under_keys() -> None:
    root = make_tree()
    tensors = _core.ModuleTensors("_parameters", [(root.first, "weight"), (root.first, "bias"), (root.second, "bias")])
    keys, found = tensors.read()
    assert keys == ((root.first, "weight"), (root.first, "bias"), (root.second, "bias"))
    assert [*map(id, found)] == [*map(id, (root.first.weight, root.first.bias, root.second.bias))]
    assert tensors.read()[0] is keys
    root.first.weight = nn.Parameter(torch.ones(1))
    assert tensors.read()[1][0] is root.first.weight and tensors.read()[0] is keys
    root.first.bias = None
    fewer, found = tensors.read()
    assert fewer == ((root.first, "weight"), (root.second, "bias")) and len(found) == 2


def test_computed_tensors() -> None:
    root = make_tree()
    nn.utils.parametrizations.weight_norm(root.first)
    keys, (weight,) = _core.ModuleTensors("_parameters", [(root.first, "weight")]).read()
    assert torch.equal(weight, root.first.weight) and keys == ((root.first, "weight"),)
    with pytest.raises(AttributeError, match="absent"):
        _core.ModuleTensors("_parameters", [(root.second, "absent")]).read()


def test_modules_where() -> None:
    root = make_tree()
    root.second.eval()
    root.again = root.first
    assert {*_core.modules_where(root, "training", "_modules")} == {root, root.first}
    assert len(_core.modules_where(root, "training", "_modules")) == 2


def test_attributes() -> None:
    root = make_tree()
    root.second.momentum = None
    assert _core.attributes([root.second, nn.BatchNorm2d(3)], ("eps", "momentum")) == [1e-5, None, 1e-5, 0.1]
    with pytest.raises(AttributeError):
        _core.attributes([root], ("eps",))


def test_addresses() -> None:
    tensors = [torch.ones(8), torch.ones(8)[3:], torch.ones(0)]
    addresses = addresses_of(tensors)
    assert addresses.alignments(64) == bytes(
        255 if tensor.numel() == 0 else tensor.data_ptr() % 64 for tensor in tensors
    )
    with pytest.raises(ValueError, match="unit must be"):
        addresses.alignments(256)
