"""Whether the values of labels are ids of objects at all, or a binary mask or classes.

Evidence: in a label map of ids an object is one connected part, with few exceptions. Where many
values of a set have several large parts, each part may be an object, and the value says something
else. A set of one object an image is not suspected: its object is one part in most images.
"""

from collections.abc import Sequence
from typing import Optional

from .check_report import listed
from .encoding import EncodedInstance

LARGE_SHARE = 0.1  # of the largest part of an object: smaller parts are specks
LARGE_AREA = 10  # pixels, likewise
FEW_IDS = 10  # and the same in all images, as a binary mask and a map of few classes have them
FEW_SHARE = 0.2  # of the values in several parts, from which a set of few ids is suspected
SHARE = 0.5  # the same for any other set: occlusion splits objects, but not most of them


def suspicion(name: str, records_of_images: "Sequence[list[EncodedInstance]]") -> Optional[str]:
    """The sentence for a set whose values look like anything but ids; None if they look like ids.

    Args:
        name: of the data set.
        records_of_images: of each image, encoded by value.
    """
    records = [record for of_image in records_of_images for record in of_image]
    split = [record for record in records if _in_large_parts(record)]
    ids = {record["id"] for record in records}
    images = sum(1 for of_image in records_of_images if of_image)
    same = images > 1 and len(ids) <= FEW_IDS and len(ids) * images <= 1.5 * len(records)
    if len(split) <= (FEW_SHARE if same else SHARE) * len(records):
        return None
    if len(ids) == 1:
        looks = f"a binary mask: its only value besides 0 is {min(ids)}"
        fix = "write `instances: components`"
    else:
        looks = f"a class map: it has the values {listed(sorted(ids))}"
        fix = (
            "write `instances: components` for one object each, with `class_of_id: 1` if the "
            "values are the classes"
        )
    most = max(len(record["parts"]) for record in split)
    return (
        f"Data set {name!r}: this looks like {looks}, and in {len(split)} of {len(records)} cases "
        f"one value has several large parts that do not touch (up to {most}), which would be "
        f"learned as one object. If each part is an object, {fix}; if the values are ids of "
        "objects that do have several parts, write `instances: ids`."
    )


def _in_large_parts(record: EncodedInstance) -> bool:
    largest = record["parts"][0]
    least = max(LARGE_AREA, LARGE_SHARE * largest)
    return sum(area >= least for area in record["parts"]) > 1
