import torch

from galaxyml.data.batches import RowSampler


def rows(sampler: RowSampler, epoch: int) -> torch.Tensor:
    sampler.set_epoch(epoch)
    return torch.cat(list(sampler))


def test_an_epoch_deals_every_row_once() -> None:
    sampler = RowSampler(torch.arange(10, 33), batch_size=5, seed=0)
    assert len(sampler) == len(list(sampler)) == 5
    assert rows(sampler, 0).sort().values.tolist() == list(range(10, 33))


def test_the_order_follows_from_seed_and_epoch() -> None:
    sampler, again = (RowSampler(torch.arange(50), 8, seed=3) for _ in range(2))
    assert torch.equal(rows(sampler, 4), rows(again, 4))
    assert not torch.equal(rows(sampler, 4), rows(sampler, 5))
    assert not torch.equal(rows(sampler, 4), rows(RowSampler(torch.arange(50), 8, seed=4), 4))


def test_no_batch_is_left_with_a_single_row() -> None:
    assert [len(batch) for batch in RowSampler(torch.arange(13), 4)] == [4, 4, 5]
    assert [len(batch) for batch in RowSampler(torch.arange(14), 4)] == [4, 4, 4, 2]
    assert [len(batch) for batch in RowSampler(torch.arange(1), 4)] == [1]


def test_without_a_seed_rows_keep_their_order() -> None:
    assert rows(RowSampler(torch.tensor([7, 3, 5]), 2), 9).tolist() == [7, 3, 5]


def test_weights_draw_rows_as_often_as_they_say() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    weights = 1 / torch.bincount(labels)[labels].double()
    drawn = rows(RowSampler(torch.arange(1000), 50, seed=0, weights=weights), 0)
    assert len(drawn) == 1000
    assert abs(float(labels[drawn].float().mean()) - 0.5) < 0.05  # 3 standard deviations
    again = RowSampler(torch.arange(1000), 50, seed=0, weights=weights)
    assert torch.equal(drawn, rows(again, 0))
    assert not torch.equal(drawn, rows(again, 1))
