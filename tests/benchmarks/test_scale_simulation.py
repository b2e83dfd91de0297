"""The simulation of a cluster, against cases with an answer in closed form."""

import math
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
simpy = pytest.importorskip("simpy")
scale_simulation = pytest.importorskip("scale_simulation")
Costs, Site, bound_s, simulate = (getattr(scale_simulation, n) for n in ("Costs", "Site", "bound_s", "simulate"))


@pytest.mark.parametrize(("tasks", "workers"), [(12, 1), (12, 3), (13, 3), (5, 8), (1000, 1000)])
def test_equal_tasks_take_whole_rounds(tasks, workers):
    found = simulate(tasks, Costs(compute_s=2.0), Site(), workers)
    assert found.seconds == pytest.approx(2.0 * math.ceil(tasks / workers))
    assert found.busy["workers"] == pytest.approx(tasks / (workers * math.ceil(tasks / workers)))


def test_opening_latency_and_the_first_task_add_up():
    costs = Costs(compute_s=2.0, overhead_s=0.5, latency_s=0.25, scheduler_s=0.1, first_s=3.0)
    assert simulate(4, costs, Site(), 1).seconds == pytest.approx(3.0 + 4 * (2.0 + 0.5 + 0.25 + 0.1))


def test_the_head_is_amdahls_limit():
    """Serial beginning and end, and rows written one after the other: speed-up ends at whole / serial."""
    costs = Costs(compute_s=10.0, head_start_s=5.0, head_s=1.0, head_end_s=15.0)
    one, many = (simulate(100, costs, Site(), workers) for workers in (1, 1000))
    assert one.seconds == pytest.approx(5 + 1000 + 1 + 15)  # the last row is written after it is made
    assert many.seconds == pytest.approx(5 + 10 + 100 + 15)
    assert many.limit == "head"
    assert one.limit == "workers"
    limits = [simulate(100, costs, Site(), workers).seconds for workers in (2, 4, 8, 16)]
    assert limits == sorted(limits, reverse=True)


def test_the_storage_limits_what_all_read():
    costs, site = Costs(compute_s=1.0, read_bytes=100.0, write_bytes=20.0), Site(storage_bytes_s=1000.0)
    found = simulate(400, costs, site, 200)
    assert found.limit == "storage"
    least = bound_s(400, costs, site, 200)
    assert least == pytest.approx(400 * 120 / 1000)
    assert 0.999 * least <= found.seconds <= 1.1 * least
    assert found.busy["storage"] == pytest.approx(400 * 120 / 1000 / found.seconds)


def test_one_connection_limits_one_worker():
    costs = Costs(compute_s=0.0, read_bytes=100.0)
    assert simulate(3, costs, Site(storage_bytes_s=1e9, worker_bytes_s=50.0), 1).seconds == pytest.approx(3 * 2.0)


def test_reading_runs_beside_computing():
    costs, site = Costs(compute_s=4.0, read_bytes=200.0), Site(storage_bytes_s=100.0)
    found = simulate(1, costs, site, 1)  # four chunks: the first of 0.5 s is waited for, the others are not
    assert found.seconds == pytest.approx(0.5 + 4.0)


def test_the_scheduler_limits_short_tasks():
    found = simulate(2000, Costs(compute_s=0.01, scheduler_s=0.001), Site(), 500)
    assert found.limit == "scheduler"
    assert found.seconds == pytest.approx(2000 * 0.001, rel=0.02)


def test_waiting_at_a_server_is_that_of_a_queue_with_equal_service():
    """M/D/1: arrivals at random, equal service; the mean wait is rho s / (2 (1 - rho))."""
    world, draw, waits = simpy.Environment(), random.Random(0), []
    server, service, load = scale_simulation._Server(world), 1.0, 0.7

    def customer():
        came = world.now
        yield from server.serve(service)
        waits.append(world.now - came - service)

    def arrivals():
        for _ in range(40_000):
            yield world.timeout(draw.expovariate(load / service))
            world.process(customer())

    world.process(arrivals())
    world.run()
    assert sum(waits) / len(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


def test_shared_cores_are_all_that_there_is():
    costs = Costs(compute_s=3.0, head_start_s=1.0)
    assert simulate(20, costs, Site(cores=2), 10).seconds == pytest.approx(1 + 20 * 3 / 2)
    assert simulate(20, costs, Site(cores=1.5), 10).seconds == pytest.approx((1 + 20 * 3 / 2) / 0.75)
    alone = simulate(20, costs, Site(cores=2), 1)
    assert alone.seconds == pytest.approx(1 + 20 * 3)


def test_an_accelerator_lets_the_core_decode():
    costs = Costs(compute_s=0.5, decode_s=1.0, wait_s=3.0)
    assert simulate(5, costs, Site(), 1).seconds == pytest.approx(5 * 3.5)
    assert simulate(5, costs, Site(cores=1), 1).seconds == pytest.approx(5 * 3.5)
    found = simulate(100, costs, Site(cores=1), 10)  # enough workers to keep the one core at work
    assert found.seconds == pytest.approx(100 * 1.5, rel=0.05)


def test_lost_workers_repeat_their_tasks():
    costs = Costs(compute_s=10.0)
    found = simulate(400, costs, Site(lifetime_s=200.0, replace_s=20.0), 10)
    whole = simulate(400, costs, Site(), 10)
    assert found.repeated > 10
    # A life of mean 200 s, then 20 s without a worker; a task that is cut is lost by half on average.
    expected = whole.seconds * (220 / 200) / (1 - 5.0 / 200)
    assert found.seconds == pytest.approx(expected, rel=0.1)
    again = simulate(400, costs, Site(lifetime_s=200.0, replace_s=20.0), 10)
    assert again == found


def test_a_lost_last_task_is_not_forgotten():
    found = simulate(1, Costs(compute_s=100.0), Site(lifetime_s=80.0, replace_s=1.0), 3, seed=3)
    assert found.seconds >= 100
    assert simulate(3, Costs(compute_s=100.0), Site(lifetime_s=80.0, replace_s=1.0), 3, seed=3).repeated >= 1


def test_slow_workers_make_a_tail():
    costs = Costs(compute_s=10.0)
    found = simulate(100, costs, Site(slow_share=0.2, slow_factor=3.0), 50)
    assert found.seconds == pytest.approx(30.0)  # a slow one is given a task of the first round, and the run waits
    assert simulate(100, costs, Site(slow_share=0.0), 50).seconds == pytest.approx(20.0)


def test_spread_keeps_the_mean():
    found = simulate(3000, Costs(compute_s=1.0, spread=0.3), Site(), 1)
    assert found.seconds == pytest.approx(3000, rel=0.02)


@pytest.mark.parametrize("workers", [1, 7, 64])
def test_no_run_is_below_the_bound(workers):
    costs = Costs(2.0, 1.0, 0.5, 50.0, 10.0, 0.1, 1.0, 0.01, 0.01, 2.0, 0.2, 3.0, 10.0)
    site = Site(storage_bytes_s=400.0)
    assert simulate(100, costs, site, workers).seconds >= bound_s(100, costs, site, workers)
