import pytest
import torch

from workers.diagnostics.products import add_products, mirror


@pytest.mark.parametrize("columns", [0, 1, 5, 127, 128, 129, 300, 1100])
def test_sums_of_products_are_whole_and_symmetric(columns: int) -> None:
    generator = torch.Generator().manual_seed(columns)
    rows, more = torch.randn(2, 40, columns, generator=generator, dtype=torch.float64)
    sums = torch.zeros(columns, columns, dtype=torch.float64)
    add_products(sums, rows)
    add_products(sums, more)
    mirror(sums)
    torch.testing.assert_close(sums, rows.T @ rows + more.T @ more, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sums, sums.T, rtol=1e-15, atol=1e-13)
