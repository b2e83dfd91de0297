"""Each method against a naive implementation on whole arrays, and streamed against whole."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.linalg
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats
from skimage.filters import threshold_otsu

from terradelta.errors import InputError, ModelError, RasterError, ShapeError
from terradelta.geo.grid import Tile
from terradelta.lab.metrics import confusion
from terradelta.mapping.run import MapOptions, map_change
from terradelta.predict.classical import load_method, method, methods, prepared
from terradelta.predict.classical.coherence import Coherence
from terradelta.predict.classical.cva import Cva
from terradelta.predict.classical.irmad import IrMad, fit_irmad, fit_mad
from terradelta.predict.classical.pca_kmeans import PcaKMeans, principal_components, two_means
from terradelta.predict.classical.split import Mixture, Otsu, fit_mixture, otsu
from terradelta.predict.classical.statistics import Moments, PixelSample, pixel_keys
from terradelta.raster.pair import open_pair

NAMES = ("cva", "irmad", "pca-kmeans")


def write(path: Path, values: NDArray[np.generic], **options: object) -> Path:
    count, height, width = values.shape
    place = Affine(30, 0, 600000, 0, -30, 3400000)
    profile = {"driver": "GTiff", "crs": "EPSG:32614", "dtype": values.dtype.name, "transform": place, **options}
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as target:
        target.write(values)
    return path


def scene(bands: int = 4, shape: tuple[int, int] = (90, 110)) -> tuple[NDArray, NDArray, NDArray]:
    """Two dates ``(C, H, W)`` of correlated bands in float32, and the truth: a square of new material."""
    rng = np.random.default_rng(3)
    ground = rng.normal(size=(bands, *shape))
    mix = rng.normal(size=(bands, bands)) + 2 * np.eye(bands)
    before = np.einsum("ij,jhw->ihw", mix, ground)
    after = 1.5 * before + 40 + 0.3 * rng.normal(size=before.shape)
    truth = np.zeros(shape, bool)
    truth[30:55, 60:90] = True
    after[:, truth] = 30 * rng.normal(size=(bands, 1)) + rng.normal(size=(bands, truth.sum())) + 40
    return (100 + 10 * before).astype(np.float32), after.astype(np.float32), truth


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    before, after, _ = scene()
    return write(tmp_path / "a.tif", before), write(tmp_path / "b.tif", after)


def fitted(paths: tuple[Path, Path], chosen: method.Method) -> method.FittedMethod:
    with open_pair(*paths) as pair:
        return chosen.fit(pair)


def standardised_magnitude(before: NDArray, after: NDArray) -> NDArray:
    z = [(v - v.mean((1, 2), keepdims=True)) / v.std((1, 2), keepdims=True) for v in map(np.float64, (before, after))]
    return np.sqrt(((z[1] - z[0]) ** 2).sum(0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_a_square_of_new_material_is_found_in_any_dtype(tmp_path, name, dtype):
    before, after, truth = scene(3)
    both = [np.clip(v / 3 + 90, 1, 255).astype(dtype) for v in (before, after)]
    predictor = fitted((write(tmp_path / "a.tif", both[0]), write(tmp_path / "b.tif", both[1])), load_method(name))
    found = predictor.predict(both[0][None], both[1][None])[0]
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert confusion(found >= 0.5, truth).f1 > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_streamed_equals_whole(files, name, monkeypatch):
    """Tiles of 32 pixels give the numbers that one tile over the scene gives."""
    whole = fitted(files, load_method(name))
    monkeypatch.setattr(method, "TILE", 32)
    tiled = fitted(files, load_method(name))
    before, after, _ = scene()
    assert np.allclose(whole.dates.mean, tiled.dates.mean, atol=1e-6)
    assert np.allclose(whole.predict(before[None], after[None]), tiled.predict(before[None], after[None]), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_tiled_map_is_the_whole_map(files, tmp_path, name):
    before, after, _ = scene()
    whole = fitted(files, load_method(name)).predict(before[None], after[None])[0]
    made = map_change(*files, tmp_path / "out", load_method(name), MapOptions(tile=40))
    with rasterio.open(made.probability) as source:
        assert np.abs(source.read(1) - whole).max() < 6e-4  # half a step of what is stored


@pytest.mark.parametrize("name", NAMES)
def test_pixels_without_data_do_not_count(tmp_path, name):
    """A wild collar that is declared nodata changes neither the fit nor the map."""
    before, after, truth = scene()
    for values in (before, after):
        values[:, :20] = -9999
    paths = write(tmp_path / "a.tif", before, nodata=-9999), write(tmp_path / "b.tif", after, nodata=-9999)
    made = map_change(*paths, tmp_path / "out", load_method(name), MapOptions(tile=32))
    with rasterio.open(made.probability) as source:
        found = source.read(1)
    assert (np.isnan(found) == (np.arange(90) < 20)[:, None]).all()
    assert confusion(found[20:] >= 0.5, truth[20:]).f1 > 0.8
    assert np.allclose(made.receipt.model.training["mean"][0], before[:, 20:].mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize("name", ["cva", "pca-kmeans"])
def test_two_equal_images_show_no_change(tmp_path, name):
    before, _, _ = scene()
    path = write(tmp_path / "a.tif", before)
    assert fitted((path, path), load_method(name)).predict(before[None], before[None]).max() < 0.5


@pytest.mark.parametrize("light", [(1.0, 0.0), (1.3, -20.0)])
@pytest.mark.parametrize("name", NAMES)
def test_noise_alone_is_no_change_and_a_dozen_pixels_of_it_are(tmp_path, name, light):
    """Two dates of one texture with noise of their own; then 48 of 24,000 pixels of the second are another material."""
    rng = np.random.default_rng(5)
    ground = ndimage.gaussian_filter(rng.normal(size=(3, 120, 200)), (0, 2, 2))
    first = 100 + 150 * ground
    second = light[0] * first + light[1] + rng.normal(0, 2, first.shape)
    first += rng.normal(0, 2, first.shape)
    before = write(tmp_path / "a.tif", np.rint(first).clip(1, 255).astype(np.uint8))
    same = write(tmp_path / "b.tif", np.rint(second).clip(1, 255).astype(np.uint8))
    second[:, 40:48, 60:66] += 60
    changed = write(tmp_path / "c.tif", np.rint(second).clip(1, 255).astype(np.uint8))
    with open_pair(before, same) as pair:
        found = load_method(name).fit(pair)
        tile = pair.read(Tile(0, 0, 120, 200))
    assert not found.stands_out
    assert found.card.training["coherence"] < 0.3
    assert found.predict(tile.before[None], tile.after[None]).max() < 0.5
    with open_pair(before, changed) as pair:
        found = load_method(name).fit(pair)
        tile = pair.read(Tile(0, 0, 120, 200))
    assert found.stands_out
    share = (found.predict(tile.before[None], tile.after[None]) >= 0.5).mean()
    assert 30 / 24000 < share < 120 / 24000


def test_coherence_is_the_correlation_of_neighbours():
    rng = np.random.default_rng(0)
    marks = rng.random((30, 41)) < 0.3
    valid = rng.random((30, 41)) < 0.9
    found = Coherence()
    found.add(marks[:13], valid[:13])
    found.add(marks[13:], valid[13:])
    first, second = [], []
    for part, known in ((marks[:13], valid[:13]), (marks[13:], valid[13:])):
        for row, col in np.ndindex(part.shape):
            for other in ((row, col - 1), (row - 1, col)):
                if min(other) >= 0 and known[row, col] and known[other]:
                    first.append(part[row, col])
                    second.append(part[other])
    assert found.value == pytest.approx(np.corrcoef(first, second)[0, 1])
    solid = np.zeros((40, 40), bool)
    solid[10:30, 5:35] = True
    whole = Coherence()
    whole.add(solid, np.ones_like(solid))
    assert whole.value > 0.9
    assert Coherence().value == 0
    nothing = Coherence()
    nothing.add(np.zeros((4, 4), bool), np.ones((4, 4), bool))
    assert nothing.value == 0


def test_three_days_of_a_port_are_no_change_and_the_labelled_change_of_taizhou_is(shared_data):
    port = [shared_data / "geo_pairs" / "s2_port" / f"s2_2025-10-{day}.tif" for day in ("09", "12")]
    years = [shared_data / "geo_pairs" / "landsat_taizhou" / f"taizhou_{year}.tif" for year in (2000, 2003)]
    for name in NAMES:
        assert not fitted(port, load_method(name)).stands_out
        assert fitted(years, load_method(name)).stands_out


def test_receipt_and_report_name_the_method(files, tmp_path):
    made = map_change(*files, tmp_path / "out", load_method("irmad"))
    model = json.loads((made.folder / "receipt.json").read_text())["model"]
    assert (model["name"], model["runtime"], model["threshold"]) == ("irmad", "FittedIrMad", 0.5)
    assert model["network_args"]["threshold"] == "em"
    assert len(model["training"]["canonical_correlations"]) == 4
    assert model["licence"].startswith("No limit")
    assert made.receipt.scaling is None
    page = made.report.read_text()
    for words in ("Nielsen", "Parameter: threshold", "Fitted: canonical correlations", "No limit: the method has no"):
        assert words in page
    assert 'class="warning"' not in page


def test_progress_counts_three_passes(files):
    ticks: list[tuple[int, int]] = []
    with open_pair(*files) as pair:
        Cva().fit(pair, lambda *t: ticks.append(t))
    assert ticks == [(1, 3), (2, 3), (3, 3)]


# CVA


def test_cva_is_the_threshold_of_the_naive_magnitude(files):
    before, after, _ = scene()
    magnitude = standardised_magnitude(before, after)
    cut = threshold_otsu(magnitude, nbins=1024)
    predictor = fitted(files, Cva("otsu"))
    assert predictor.card.training["otsu_threshold"] == pytest.approx(cut, rel=1e-3)
    found = predictor.predict(before[None], after[None])[0] >= 0.5
    clear = np.abs(magnitude - cut) > 0.01
    assert (found == (magnitude >= cut))[clear].all()


def test_mixture_finds_the_gaussians_that_were_drawn():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1, 0.3, 40_000), rng.normal(4, 1, 10_000)])
    found = fit_mixture(values, otsu(values)[0])
    assert found.weight == pytest.approx((0.8, 0.2), abs=0.01)
    assert found.mean == pytest.approx((1, 4), abs=0.05)
    assert found.std == pytest.approx((0.3, 1), abs=0.03)
    densities = [w * stats.norm.pdf(2.2, m, s) for w, m, s in zip(found.weight, found.mean, found.std, strict=True)]
    assert found.log_odds(np.float32([2.2]))[0] == pytest.approx(np.log(densities[1] / densities[0]), rel=1e-4)
    assert found.log_odds(np.float32([found.threshold()]))[0] == pytest.approx(0, abs=1e-4)


@given(st.floats(0.05, 0.95), st.floats(0, 3), st.floats(0.01, 5), st.floats(0.1, 3), st.floats(0.1, 3))
def test_odds_never_fall_with_the_magnitude(weight, low, step, first, second):
    mixture = Mixture((1 - weight, weight), (low, low + step), (first, second), 1)
    odds = mixture.log_odds(np.linspace(0, 20, 200, dtype=np.float32))
    assert (np.diff(odds) >= -1e-5).all()


def test_otsu_is_a_logistic_around_the_threshold():
    rng = np.random.default_rng(0)
    cut, scale = otsu(np.concatenate([rng.normal(1, 0.1, 5000), rng.normal(5, 0.1, 5000)]))
    assert 1.3 < cut < 4.7
    assert scale == pytest.approx(0.1, rel=0.1)
    assert Otsu(2.0, 0.5).log_odds(np.float32([2, 3])).tolist() == [0, 2]


# PCA-k-means


def test_two_means_by_hand():
    points = np.array([[0.0], [1.0], [2.0], [10.0], [12.0]])
    assert two_means(points, np.array([False, False, False, False, True])).tolist() == [[1.0], [11.0]]


def test_components_against_a_singular_value_decomposition():
    blocks = np.random.default_rng(0).normal(size=(500, 9)) * np.arange(1, 10)
    mean, components, explained = principal_components(blocks, 0.9)
    _, singular, vt = np.linalg.svd(blocks - blocks.mean(0), full_matrices=False)
    shares = np.cumsum(singular**2) / (singular**2).sum()
    kept = int((shares < 0.9).sum()) + 1
    assert components.shape == (9, kept)
    assert explained == pytest.approx(shares[kept - 1])
    assert np.allclose(np.abs((components * vt[:kept].T).sum(0)), 1)
    assert np.allclose(mean, blocks.mean(0))


def test_pca_kmeans_against_loops(files):
    before, after, _ = scene()
    predictor = fitted(files, PcaKMeans(block=3))
    padded = np.pad(standardised_magnitude(before, after), 1, mode="symmetric")
    blocks = np.array([padded[i : i + 3, j : j + 3].ravel() for i in range(90) for j in range(110)])
    mean, components, _ = principal_components(blocks, 0.9)
    v = (blocks - mean) @ components
    changed = blocks.mean(1) > blocks.mean()
    for _ in range(100):
        centres = np.stack([v[~changed].mean(0), v[changed].mean(0)])
        distances = np.linalg.norm(v[:, None] - centres, axis=2)
        changed = distances[:, 1] < distances[:, 0]
    expected = (distances[:, 0] / distances.sum(1)).reshape(90, 110)
    assert np.abs(predictor.predict(before[None], after[None])[0] - expected).max() < 0.01


# IR-MAD


def test_mad_against_the_generalised_eigenproblem():
    before, after, _ = scene()
    x, y = (v.reshape(4, -1).T.astype(np.float64) for v in (before, after))
    weights = np.random.default_rng(0).uniform(0.1, 1, len(x))
    joint = np.cov(np.hstack([x, y]).T, aweights=weights, ddof=0)
    sxx, sxy, syy = joint[:4, :4], joint[:4, 4:], joint[4:, 4:]
    squares = scipy.linalg.eigh(sxy @ np.linalg.solve(syy, sxy.T), sxx, eigvals_only=True)[::-1]
    found = fit_mad(x, y, weights)
    assert np.allclose(found.rho**2, squares, atol=1e-9)
    variates = found.variates(x, y)
    covariance = np.cov(variates.T, aweights=weights, ddof=0)
    assert np.allclose(covariance, np.diag(2 * (1 - found.rho)), atol=1e-8)


@given(st.integers(0, 10_000))
def test_affine_maps_of_each_date_leave_irmad_as_it_is(seed):
    before, after, _ = scene(3, (30, 40))
    rng = np.random.default_rng(seed)
    x, y = (v.reshape(3, -1).T.astype(np.float64) for v in (before, after))
    mixed = [
        v @ (np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 5, 3)) + rng.normal(0, 50, 3) for v in (x, y)
    ]
    first, second = fit_irmad(x, y, IrMad()), fit_irmad(*mixed, IrMad())
    assert first.iterations == second.iterations
    assert np.allclose(first.mad.rho, second.mad.rho, atol=1e-8)
    assert np.allclose(first.mad.chi_square(x, y), second.mad.chi_square(*mixed), rtol=1e-6, atol=1e-9)


def test_significance_is_the_threshold(files):
    before, after, _ = scene()
    predictor = fitted(files, IrMad("significance", significance=1e-3))
    x, y = (v.reshape(4, -1).T.astype(np.float64) for v in (before, after))
    z = fit_irmad(x, y, IrMad()).mad.chi_square(x, y).reshape(90, 110)
    p = stats.chi2.sf(z, 4)
    assert np.allclose(predictor.predict(before[None], after[None])[0], 1e-3 / (1e-3 + p), atol=5e-3)


def test_redundant_and_constant_bands_are_left_out():
    before, after, _ = scene(3)
    x, y = (v.reshape(3, -1).T.astype(np.float64) for v in (before, after))
    more = np.column_stack([x, x.sum(1), np.full(len(x), 7.0)])
    plain, found = fit_irmad(x, y, IrMad()), fit_irmad(more, np.column_stack([y, y[:, :1] * 2, y[:, 1]]), IrMad())
    assert len(found.mad.rho) == 3
    assert np.allclose(
        found.mad.chi_square(more, np.column_stack([y, y[:, :1] * 2, y[:, 1]])),
        plain.mad.chi_square(x, y),
        rtol=1e-5,
        atol=1e-6,
    )


def test_iteration_ends_before_the_weights_collapse():
    """A tenth of the pixels is equal on both dates to the last digit: without a bound they alone would be unchanged."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2))
    y = x + np.where(np.arange(4000) < 100, 0, 1)[:, None] * rng.normal(size=(4000, 2))
    bounded = fit_irmad(x, y, IrMad())
    free = fit_irmad(x, y, IrMad(smallest_share=0, max_iterations=200))
    assert bounded.ended == "smallest share"
    assert bounded.mean_weight >= 0.05 > free.mean_weight


# Statistics


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 1000))
def test_moments_do_not_depend_on_the_parts(sizes, seed):
    rng = np.random.default_rng(seed)
    values = (1000 + rng.normal(size=(2, 3, sum(sizes) + 1))).astype(np.float32)
    moments = Moments()
    for part in np.split(values, np.cumsum(sizes), axis=2):
        moments.add(part)
    assert moments.count == values.shape[2]
    assert np.allclose(moments.mean, values.astype(np.float64).mean(2))
    assert np.allclose(moments.std, values.astype(np.float64).std(2), atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_moments_of_parts_are_those_of_the_whole(dtype, monkeypatch):
    monkeypatch.setattr("terradelta.predict.classical.statistics._CHUNK", 777)
    values = np.random.default_rng(0).normal(200, 12, (2, 5000)).clip(0, 255).astype(dtype)
    moments, other = Moments(), Moments()
    moments.add(values[:, :100])
    moments.add(values[:, :0])
    other.add(values[:, 100:4999])
    other.add(values[:, 4999:])
    moments.merge(other)
    moments.merge(Moments())
    np.testing.assert_allclose(moments.mean, values.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.std, values.std(axis=1), rtol=1e-9)


@given(st.permutations(range(10)))
def test_a_sample_does_not_depend_on_the_order(order):
    rows, cols = np.divmod(np.arange(1000), 40)
    keys = pixel_keys(rows, cols, 40, 0)
    assert len(np.unique(keys)) == 1000
    sample = PixelSample(50, 1)
    for part in order:
        chosen = np.arange(1000) // 100 == part
        chosen &= sample.wanted(keys)
        sample.add(keys[chosen], np.flatnonzero(chosen)[:, None].astype(np.float32))
    assert sample.values[:, 0].tolist() == np.argsort(keys)[:50].tolist()


def test_a_sample_is_uniform():
    rows, cols = np.divmod(np.arange(200_000), 500)
    smallest = np.argsort(pixel_keys(rows, cols, 500, 1))[:20_000]
    for at, top in ((rows, 400), (cols, 500)):
        counts = np.bincount(at[smallest] * 10 // top, minlength=10)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_a_sampled_fit_is_near_the_whole_one(files, monkeypatch):
    before, after, _ = scene()
    whole = fitted(files, IrMad())
    monkeypatch.setattr(method, "SAMPLE_PX", 3000)
    sampled = fitted(files, IrMad())
    assert sampled.card.training["sample_px"] == 3000
    assert sampled.card.training["valid_px"] == 90 * 110
    one, other = (p.predict(before[None], after[None]) >= 0.5 for p in (whole, sampled))
    assert (one == other).mean() > 0.98


# Messages


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Cva("median"), "threshold is 'median'; CVA takes 'em' or 'otsu'"),
        (lambda: PcaKMeans(block=4), "block is 4; the side of a block must be an odd number"),
        (lambda: PcaKMeans(explained=0), "explained is 0; it must be above 0 and at most 1"),
        (lambda: IrMad("median"), "IR-MAD takes 'em', 'otsu' or 'significance'"),
        (lambda: IrMad(significance=0), "significance is 0 and smallest_share 0.05; both must be below 1"),
        (lambda: IrMad(tolerance=0), "the tolerance must be above 0, and 1 iteration or more"),
    ],
)
def test_parameters_out_of_range(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_unknown_method():
    assert tuple(methods()) == NAMES
    with pytest.raises(ModelError, match="there is no method 'mad'; give one of cva, irmad, pca-kmeans, or a model"):
        load_method("mad")


def test_too_few_pixels_and_constant_bands(tmp_path):
    rng = np.random.default_rng(0)
    small = write(tmp_path / "a.tif", rng.normal(size=(3, 7, 7)).astype(np.float32))
    with pytest.raises(RasterError, match="IR-MAD of 3 bands needs 60 valid pixels or more, but the pair has 49"):
        fitted((small, small), IrMad())
    flat = write(tmp_path / "b.tif", np.full((3, 20, 20), 5, np.uint8))
    with pytest.raises(RasterError, match="every band is constant on one date"):
        fitted((flat, flat), IrMad())
    with pytest.raises(ShapeError, match="limit is 0"):
        PixelSample(0, 1)


# Real images


@pytest.mark.parametrize(
    ("chosen", "kappa", "f1", "oa"),
    [
        (Cva(), 0.90, 0.92, 0.96),  # measured 0.917, 0.933, 0.974
        (Cva("otsu"), 0.87, 0.89, 0.95),  # 0.891, 0.911, 0.967
        (PcaKMeans(), 0.88, 0.90, 0.95),  # 0.906, 0.924, 0.971
        (IrMad(), 0.90, 0.92, 0.96),  # 0.928, 0.942, 0.977
        (IrMad("significance"), 0.82, 0.85, 0.93),  # 0.847, 0.880, 0.947
    ],
)
def test_taizhou(shared_data, chosen, kappa, f1, oa):
    """Landsat, six bands, 2000 and 2003; pixels without a label do not count."""
    folder = shared_data / "geo_pairs" / "landsat_taizhou"
    labels = []
    for name in ("change.tif", "unchanged.tif"):
        with rasterio.open(folder / name) as source:
            labels.append(source.read(1) > 0)
    with open_pair(folder / "taizhou_2000.tif", folder / "taizhou_2003.tif") as pair:
        window, predictor = pair.read(pair.grid.tile), chosen.fit(pair)
    found = predictor.predict(window.before[None], window.after[None])[0] >= 0.5
    scores = confusion(found, labels[0], labels[0] | labels[1])
    print(f"{chosen}: kappa {scores.kappa:.4f}, F1 {scores.f1:.4f}, OA {scores.oa:.4f}")
    assert scores.kappa > kappa
    assert scores.f1 > f1
    assert scores.oa > oa


def test_a_method_is_a_predictor_that_is_not_fitted_yet(files):
    found = load_method("cva")
    with pytest.raises(ModelError, match=r"the method cva is not fitted to a pair yet; call prepared\(method, pair\)"):
        found.logits(np.zeros((1, 1, 2, 2), np.float32), np.zeros((1, 1, 2, 2), np.float32))
    steps = []
    with open_pair(*files) as pair:
        ready = prepared(found, pair, lambda *step: steps.append(step))
        assert prepared(ready, pair) is ready
        remarks = found.remarks(pair.grid), ready.remarks(pair.grid)
    assert (found.name, found.identity, found.wanted, found.scale) == ("cva", "cva", None, None)
    assert (ready.name, ready.wanted, ready.scale) == ("cva", ready.card.bands, 1.0)
    (purpose,) = remarks[0]
    assert purpose.startswith("The method cva finds whatever looks different")
    assert remarks[1] == [purpose, "The model cva is run by FittedCva."]
    assert ready.identity != found.identity
    assert (found.fitted, ready.fitted) == (False, True)
    assert steps[-1][0] == steps[-1][1] > 0


def test_the_root_of_chi_square_in_pieces_is_that_of_all_pixels(monkeypatch):
    monkeypatch.setattr("terradelta.predict.classical.irmad.PIECE_PX", 7)
    x, y = (np.random.default_rng(seed).normal(size=(100, 4)) for seed in (0, 1))
    mad = fit_irmad(x, x + 0.3 * y, IrMad()).mad
    np.testing.assert_allclose(mad.root(x.T, y.T), np.sqrt(mad.chi_square(x, y)), rtol=1e-6)
