"""Measures of a generator's pictures: pure functions on tensors."""

from i2i.metrics.image import l1, laplacian_energy, psnr, ssim

__all__ = ["l1", "laplacian_energy", "psnr", "ssim"]
