import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from pm.data.records import Face, Photo
from pm.data.stages.verify import verify
from pm.data.verify.none import Trust
from pm.data.verify.similarity import Similarity, deviations, select_faces, similarity_sums
from pm.photo.embedders.dlib import Dlib

ROBUST = Similarity(name="similarity", threshold=5.0, spread="robust", rounds=4, common_person=True)
PAPER = Similarity(name="similarity", threshold=8.0, spread="group", rounds=1, common_person=False)
DLIB = Dlib(name="dlib", min_spread=0.03, max_distance=None)
PAPER_AT_3 = replace(PAPER, threshold=3.0)
NONE = Trust(name="none")


def person(rng, count: int, noise: float = 0.05) -> np.ndarray:
    """Embeddings of one person: a direction, blurred."""
    centre = rng.standard_normal(128)
    return centre / np.linalg.norm(centre) + noise * rng.standard_normal((count, 128)) / np.sqrt(128) * 4


def photo(name: str, *embeddings: np.ndarray, identity: str = "anna", sizes: tuple = ()) -> Photo:
    sides = sizes or (30.0,) * len(embeddings)
    faces = tuple(Face((0.0, 0.0, s, s), (), 1.0, tuple(map(float, e))) for s, e in zip(sides, embeddings, strict=True))
    return Photo(identity, name, faces=faces)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("count, intruders", [(6, 1), (8, 1), (8, 2), (10, 4), (30, 5), (100, 20), (100, 40)])
def test_planted_intruders_are_found_and_nobody_else(seed, count, intruders):
    rng = np.random.default_rng(seed)
    own = person(rng, count - intruders)
    strangers = [person(rng, 1)[0] for _ in range(intruders)]
    everyone = [photo(f"{i}", e) for i, e in enumerate([*own, *strangers])]
    order = rng.permutation(count)
    result = verify([everyone[i] for i in order], ROBUST, embedder=DLIB, min_photos=2)
    assert [p.photo for p in result] == [str(i) for i in order]
    assert {int(p.photo) for p in result if p.reject} == set(range(count - intruders, count))
    assert all(
        p.reject.reason == "other_person" and p.reject.value > 5 == p.reject.threshold for p in result if p.reject
    )


def test_the_papers_rule_finds_one_intruder_in_a_hundred_and_cannot_in_eight():
    rng = np.random.default_rng(0)
    stranger = person(rng, 1)[0]
    for count, found in ((100, 1), (8, 0)):
        photos = [photo(f"{i}", e) for i, e in enumerate([*person(rng, count - 1), stranger])]
        assert sum(p.reject is not None for p in verify(photos, PAPER, DLIB, 2)) == found
    sums = np.array([0.0] * 7 + [-1000.0])
    assert deviations(sums, "group", 0).max() == pytest.approx(np.sqrt(7))


def test_of_several_faces_the_persons_own_is_chosen():
    rng = np.random.default_rng(3)
    own = person(rng, 6)
    photos = [photo(f"{i}", person(rng, 1)[0], e, person(rng, 1)[0]) for i, e in enumerate(own[:3])]
    photos += [photo(f"{i + 3}", e) for i, e in enumerate(own[3:])]
    for done, embedding in zip(verify(photos, ROBUST, DLIB, 2), own, strict=True):
        assert done.reject is None and done.faces[0].embedding == tuple(map(float, embedding))


def test_similarity_sums_against_the_definition():
    vectors = np.random.default_rng(0).standard_normal((7, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    slow = [-sum(np.linalg.norm(unit[i] - unit[j]) for j in range(7) if j != i) for i in range(7)]
    assert similarity_sums(vectors) == pytest.approx(slow)
    assert similarity_sums(3 * vectors) == pytest.approx(slow)
    assert select_faces([vectors[:3], vectors[3:4], vectors[4:]])[1] == 0


def test_without_a_rule_the_largest_face_is_taken_and_identities_are_independent():
    rng = np.random.default_rng(0)
    photos = [photo("a", *person(rng, 2), sizes=(10.0, 20.0)), photo("b", person(rng, 1)[0])]
    photos += [photo("c", person(rng, 1)[0], identity="ben")]
    done = verify(photos, NONE, embedder=DLIB, min_photos=2)
    assert done[0].face.box[2] == 20 and [p.reject is None for p in done] == [True, True, False]
    assert (done[2].reject.reason, done[2].reject.value, done[2].reject.threshold) == ("too_few_photos", 1, 2)


def test_equal_photos_and_pairs_are_never_rejected():
    same = np.ones(8)
    assert not any(p.reject for p in verify([photo(f"{i}", same) for i in range(5)], PAPER, DLIB, 2))
    pair = [photo("a", np.eye(8)[0]), photo("b", np.eye(8)[1])]
    assert not any(p.reject for p in verify(pair, ROBUST, DLIB, 2))


def test_a_thousand_faces_are_compared_without_all_pairs_in_memory():
    rng = np.random.default_rng(0)
    own, strangers = person(rng, 980), [person(rng, 1)[0] for _ in range(20)]
    group = [photo(f"{i}", e) for i, e in enumerate([*own, *strangers])]
    group[0] = photo("0", person(rng, 1)[0], own[0], person(rng, 1)[0])
    tracemalloc.start()
    done = verify(group, PAPER_AT_3, DLIB, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1000**2 * 8
    assert {int(p.photo) for p in done if p.reject} == set(range(980, 1000))
    assert done[0].faces[0].embedding == tuple(map(float, own[0]))


def test_an_identity_of_nothing_but_strangers_is_rejected_whole():
    rng = np.random.default_rng(4)
    embedder = replace(DLIB, max_distance=1.1)
    strangers = [photo(f"s{i}", person(rng, 1)[0]) for i in range(12)]
    done = verify(strangers, ROBUST, embedder, 2)
    assert {p.reject.reason for p in done} == {"no_common_person"}
    assert all(p.reject.value > p.reject.threshold == 1.1 for p in done)
    assert all(p.reject is None for p in verify(strangers, replace(PAPER, threshold=99), embedder, 2))
    own = [photo(f"{i}", e) for i, e in enumerate(person(rng, 7))] + strangers[:5]
    rejects = [p.reject for p in verify(own, ROBUST, embedder, 2)]
    assert rejects[:7] == [None] * 7 and {r.reason for r in rejects[7:]} == {"other_person"}


def test_an_identity_with_one_photo_is_too_few():
    alone = photo("a", *person(np.random.default_rng(0), 2))
    for config in (ROBUST, PAPER, NONE):
        (done,) = verify([alone], config, DLIB, 2)
        assert done.reject.reason == "too_few_photos"
        assert verify([alone], config, DLIB, 1)[0].reject is None


def test_rejected_photos_do_not_vote():
    rng = np.random.default_rng(1)
    own = [photo(f"{i}", e) for i, e in enumerate(person(rng, 6))]
    strangers = [photo(f"s{i}", e).rejected("faces", "no_face") for i, e in enumerate(person(rng, 20))]
    done = verify([*strangers, *own], ROBUST, DLIB, 2)
    assert [p.reject is not None and p.reject.stage for p in done] == ["faces"] * 20 + [False] * 6
