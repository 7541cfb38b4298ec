"""Fitting the operator table from whole-network times, where single operators cannot be timed.

FBNet eq. 3 adds up a table's entries; here it is read backwards, as a regression. Whole networks tell the difference
of each operator to its layer's skip, and one constant (``fit_design``). An operator's cost is taken as a weighted sum
of physical quantities (MACs, weights, ...), a scaled copy of another device's table where one is given, and a
deviation of its own; how much each of the three contributes is learned from the data (``fit_model``). An operator
costs the same wherever it stands; a cost per layer changed R2 by less than 0.001 on each of 21 published devices.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arch import SearchSpace
from ..arch.spec import Resolution
from .errors import LatencyError
from .fit_design import Design
from .fit_model import Posterior, infer
from .fit_score import FitScore
from .setting import Setting
from .table import Entry, LatencyTable

FEWEST = 3  # networks that a fit needs


@dataclass(frozen=True)
class Fit:
    """A fitted table and how far to trust it.

    Attributes:
        table: one entry per operator of the space: ``us`` is the difference to the layer's reference, ``spread_us``
            its standard error, ``runs`` the number of networks that ran it. Its ``latencies`` equal ``predict``.
        reference: per variable the choice that differences are taken to: its skip if it has one, else its first.
        difference_us: of candidate i of layer l to the reference, shape (L, most candidates), NaN beyond a layer's
            candidates.
        difference_error_us: standard errors, same shape; 0 at the reference.
        noise_us: standard deviation of one measurement; with tails, the scale of its t distribution.
        noise_tail: degrees of freedom of the noise, infinity where it is normal.
        drift_us: change of all times per unit of the order, µs; 0 where no order was given.
        left_out: score on the fitted networks, each predicted from all others.
    """

    table: LatencyTable
    reference: np.ndarray
    difference_us: np.ndarray
    difference_error_us: np.ndarray
    noise_us: float
    noise_tail: float
    drift_us: float
    left_out: FitScore
    regression: Regression = dataclasses.field(repr=False)

    def predict(self, points: Any, order: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Latency of networks.

        Args:
            points: choice indices, shape (n, L).
            order: when they run, in the unit of the fitted order, shape (n,); default: in the middle of the fitted
                networks, which is what the table stands for.

        Returns:
            mean in µs and its standard error, without the noise of a new measurement; each of shape (n,).

        Raises:
            LatencyError: bad points, or an order where none was fitted.
        """
        return self.regression.predict(points, order)

    def score(self, points: Any, latencies_us: Any, order: Any = None) -> FitScore:
        """Compares with networks that were not fitted; arguments and errors as in ``fit_table``."""
        predicted, _ = self.predict(points, order)
        return FitScore.of(check_times(latencies_us, len(predicted), fewest=1), predicted)


def fit_table(
    space: SearchSpace,
    points: Any,
    latencies_us: Any,
    *,
    setting: Setting,
    resolution: Resolution | None = None,
    prior: LatencyTable | None = None,
    features: bool = True,
    order: Any = None,
) -> Fit:
    """Fits an operator table to times of whole networks (FBNet eq. 3 read backwards).

    Works with fewer networks than operators: what the networks do not tell comes from ``features`` and ``prior``, with
    a larger standard error. Outliers count less where the residuals have heavy tails.

    Args:
        space: layer-wise: each variable changes layers of its own.
        points: choice indices of the measured networks, shape (n, L), n >= 3.
        latencies_us: their times in µs, shape (n,), above 0 and not all equal.
        setting: what the times hold for; the table bears it with method "fit".
        resolution: image px; default: that of the space.
        prior: a table of another device with all operators that the space chooses between; its scale is learned.
        features: costs may depend on MACs, weights, map sizes, ...; False: each operator is unrelated to the others.
        order: when each network was measured (a running number, or a time), shape (n,). A steady drift of the device
            in that order is then estimated and kept out of the table.

    Raises:
        LatencyError: too few networks, bad points, times or order, or a prior that lacks operators.
        ArchError: the space is not layer-wise.
    """
    design = Design.of(space, resolution)
    regression = Regression.fit(design, points, latencies_us, basis_of(design, features, prior), order)
    posterior, clock = regression.posterior, regression.clock
    us, covariance = regression.operators()
    rows = design.differences()
    left_out = FitScore.of(check_times(latencies_us, len(posterior.left_out)), posterior.left_out)
    return Fit(
        table=_table(regression, points, setting, left_out),
        reference=design.reference,
        difference_us=design.by_layer(rows @ us),
        difference_error_us=design.by_layer(_deviations(rows, covariance)),
        noise_us=posterior.noise,
        noise_tail=posterior.tail,
        drift_us=float(posterior.mean[-1]) / clock[1] if clock else 0.0,
        left_out=left_out,
        regression=regression,
    )


def basis_of(design: Design, features: bool, prior: LatencyTable | None) -> list[np.ndarray]:
    """The groups of terms that make up an operator's µs, each of shape (P, k) and of unit variance over networks.

    Raises:
        LatencyError: the prior lacks operators.
    """
    works = (~design.identity).astype(np.float64)
    groups = [np.diag(works), works[:, None]]  # an operator's own deviation, and the mean of all
    if features:
        spread = np.sqrt(design.variance(design.features))
        groups.append(design.features / np.where(spread > 0, spread, np.inf))
    if prior is not None:
        prior.require(design.operators, f"--space {design.space}")
        groups.append(np.array([[prior.entries[operator].us] for operator in design.operators]))
    return [group / np.sqrt(max(float(design.variance(group).sum()), 1e-30)) for group in groups]


@dataclass(frozen=True)
class Regression:
    """The fitted additive model.

    Attributes:
        design: of the space.
        basis: an operator's µs are ``basis`` times the coefficients, shape (P, k).
        clock: mean and standard deviation of the order of measurement; None where none was given. With a clock, one
            more coefficient is the drift.
        posterior: of the coefficients.
    """

    design: Design
    basis: np.ndarray
    clock: tuple[float, float] | None
    posterior: Posterior

    @classmethod
    def fit(cls, design: Design, points: Any, latencies_us: Any, groups: list[np.ndarray], order: Any) -> Regression:
        """Arguments as in ``fit_table``; ``groups`` as ``basis_of`` gives them."""
        counts = design.counts(points)
        times = check_times(latencies_us, len(counts))
        if not np.ptp(times):
            raise LatencyError(f"latencies: all {len(times)} are {times[0]:g} µs, expected some that differ")
        basis = np.concatenate(groups, axis=1)
        group = np.repeat(np.arange(len(groups)), [terms.shape[1] for terms in groups])
        columns, clock = counts @ basis, None
        if order is not None:
            when = _check_numbers("order", order, len(times))
            clock = float(when.mean()), float(when.std()) or 1.0
            columns = np.column_stack([columns, (when - clock[0]) / clock[1]])
            group = np.append(group, len(groups))
        return cls(design, basis, clock, infer(columns, group, times))

    def predict(self, points: Any, order: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """As ``Fit.predict``."""
        columns = self.design.counts(points) @ self.basis
        if order is not None and self.clock is None:
            raise LatencyError("order: given, but the fit was made without; expected none")
        if self.clock is not None:
            when = np.full(len(columns), self.clock[0]) if order is None else order
            when = _check_numbers("order", when, len(columns))
            columns = np.column_stack([columns, (when - self.clock[0]) / self.clock[1]])
        columns -= self.posterior.center
        errors = np.hypot(_deviations(columns, self.posterior.covariance), np.sqrt(self.posterior.intercept_variance))
        return self.posterior.intercept + columns @ self.posterior.mean, errors

    def operators(self) -> tuple[np.ndarray, np.ndarray]:
        """µs of the operators before the gauge, shape (P,), and their covariance, shape (P, P)."""
        k = self.basis.shape[1]
        return self.basis @ self.posterior.mean[:k], self.basis @ self.posterior.covariance[:k, :k] @ self.basis.T


def _table(regression: Regression, points: Any, setting: Setting, left_out: FitScore) -> LatencyTable:
    design = regression.design
    us, covariance = regression.operators()
    us, errors = design.gauge @ us, _deviations(design.gauge, covariance)
    runs = (design.counts(points) > 0).sum(axis=0)
    entries = {
        operator: Entry(0.0, in_constant=True) if apart else Entry(float(value), float(error), int(count))
        for operator, value, error, count, apart in zip(design.operators, us, errors, runs, design.in_constant)
    }
    number = {operator: place for place, operator in enumerate(design.operators)}
    one = np.zeros((1, len(design.reference)), dtype=np.int64)  # any network: the constant is what its entries leave
    rest = regression.predict(one)[0][0] - design.counts(one)[0] @ us
    for operator in design.fixed:
        if operator in number:
            rest -= us[number[operator]]
        else:
            entries[operator] = Entry(0.0, in_constant=True)
    notes = f"fitted to {left_out.networks} networks of {design.space}; leave-one-out R2 {left_out.r2:.4f}"
    return LatencyTable(dataclasses.replace(setting, method="fit"), entries, float(rest), notes=notes)


def _deviations(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard deviation of each row's (n, k) product with something of this covariance (k, k): shape (n,)."""
    return np.sqrt(np.maximum(((rows @ covariance) * rows).sum(axis=1), 0.0))


def _check_numbers(name: str, values: Any, count: int) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise LatencyError(f"{name}: expected {count} numbers, one per network") from None
    if array.shape != (count,):
        raise LatencyError(f"{name}: got shape {array.shape}, expected ({count},), one number per network")
    if not np.isfinite(array).all():
        place = int(np.argmin(np.isfinite(array)))
        raise LatencyError(f"{name}[{place}]: got {array[place]}, expected a finite number")
    return array


def check_times(latencies_us: Any, count: int, fewest: int = FEWEST) -> np.ndarray:
    """Times of ``count`` networks as float64.

    Raises:
        LatencyError: fewer than ``fewest``, another number of them, or one that is no finite number above 0.
    """
    times = _check_numbers("latencies", latencies_us, count)
    if count < fewest:
        raise LatencyError(f"latencies: got {count} networks, expected at least {fewest}")
    if not (times > 0).all():
        place = int(np.argmin(times > 0))
        raise LatencyError(f"latencies[{place}]: got {times[place]:g} µs, expected a time above 0")
    return times
