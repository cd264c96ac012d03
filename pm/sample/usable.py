"""Which of several ID photos can be used: those that cannot are left out with a note, as long as others remain."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from pm.cpus import available_cpus
from pm.errors import RequestError
from pm.sample.references import Reference, UnusablePhoto

T = TypeVar("T")


def usable(count: int, prepare: Callable[[int], Reference], strict: bool = False) -> list[Reference]:
    """References of `count` photos, in their order, each with its number in `index`.

    Args:
        prepare: makes the reference of photo i, from 0.
        strict: refuse the first photo that cannot be used, whatever the others are.

    Returns:
        Those that can be used; what was left out is in the notes of the first.

    Raises:
        RequestError: none can be used (says why of each), or one of them cannot and `strict`.
    """
    kept: list[Reference] = []
    refused: list[UnusablePhoto] = []
    for number, found in enumerate(_prepared(count, prepare)):
        if isinstance(found, Reference):
            kept.append(replace(found, index=number))
        elif strict or count == 1:
            raise found
        else:
            refused.append(found)
    if not refused:
        return kept
    if not kept:
        raise RequestError(
            f"none of the {count} ID photos can be used: {'; '.join(f'{e.photo}: {e.why}' for e in refused)}; "
            "use other photos, or preprocess=none to take them as they are"
        )
    notes = tuple(f"{error.photo}: left out ({error.why})" for error in refused)
    return [replace(kept[0], notes=(*notes, *kept[0].notes)), *kept[1:]]


def _prepared(count: int, prepare: Callable[[int], Reference]) -> Iterator[Reference | UnusablePhoto]:
    """All photos in their order, on as many threads as there are cores; the first one alone, since it loads models."""

    def one(number: int) -> Reference | UnusablePhoto:
        try:
            return prepare(number)
        except UnusablePhoto as error:
            return error

    if count:
        yield one(0)
    if count > 1:
        with ThreadPoolExecutor(min(count - 1, available_cpus()), "photos") as pool:
            yield from pool.map(one, range(1, count))


def values_kept(name: str, values: Sequence[T] | None, references: Sequence[Reference], count: int) -> list[T] | None:
    """Of one value for each of `count` photos, those of the photos that were kept.

    Raises:
        RequestError: there is not one for each.
    """
    if values is None:
        return None
    if len(values) != count:
        raise RequestError(f"{len(values)} {name} given for {count} ID images; give one for each, or none")
    return [values[reference.index] for reference in references]
