"""Says what is wrong with a data set, file by file, and draws some of its annotations.

    python tools/check_dataset.py NAME [--config-file FILE] [--output DIR] [--max-pictures N]
    python tools/check_dataset.py --images DIR --labels DIR [--classes DIR --names NAME...]
    python tools/check_dataset.py --images DIR --json FILE

Exit status 1 if anything is wrong.
"""

import argparse
import sys
from pathlib import Path

from detectron2.data import MetadataCatalog

from instance_seg_common.data import (
    register_builtin_datasets,
    register_coco_dataset,
    register_label_map_dataset,
)
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.command_line import run_tool
from instance_seg_common.engine.picture_run import PictureWriter
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError
from instance_seg_common.visualization.panels import annotation_panel

UNNAMED = "given_on_the_command_line"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="a registered data set")
    parser.add_argument("--config-file", default="", help="registers its DATASETS.REGISTER")
    parser.add_argument("--images", metavar="DIR", help="folder of images")
    parser.add_argument("--labels", metavar="DIR", help="folder of instance-id label images")
    parser.add_argument("--classes", metavar="DIR", help="folder of class-id images")
    parser.add_argument("--names", nargs="+", default=["object"], help="names of the classes")
    parser.add_argument("--json", metavar="FILE", help="COCO JSON")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for annotated pictures; default: output/check/NAME"
    )
    parser.add_argument("--max-pictures", type=int, default=8, metavar="N", help="0 draws none")
    return parser.parse_args()


def data_set_name(args: argparse.Namespace) -> str:
    """Register what the arguments describe; returns its name."""
    if args.config_file:
        load_cfg(args.config_file)
    else:
        register_builtin_datasets()
    given = [args.name is not None, args.labels is not None, args.json is not None]
    if sum(given) != 1 or (args.images is None) != (args.name is not None):
        raise UserError("Give one of: NAME; --images and --labels; --images and --json.")
    if args.name is not None:
        return args.name
    if args.json is not None:
        register_coco_dataset(UNNAMED, args.json, args.images)
    else:
        register_label_map_dataset(
            UNNAMED, args.images, args.labels, thing_classes=args.names, class_dir=args.classes
        )
    return UNNAMED


def draw(name: str, folder: Path, max_pictures: int) -> int:
    """Write annotated pictures of images spread evenly over the set; returns how many."""
    records = get_dataset_dicts(name)
    class_names = MetadataCatalog.get(name).get("thing_classes", ())
    step = max(1, -(-len(records) // max(1, max_pictures)))
    writer = PictureWriter(folder)
    for record in records[::step][:max_pictures]:
        try:
            picture = annotation_panel(record, class_names)
        except UserError as error:
            print(f"No picture: {error}", file=sys.stderr)
            continue
        writer.picture(picture, writer.name(record))
    return writer.pictures


def main() -> int:
    """Check, print, draw."""
    args = parse_arguments()
    name = data_set_name(args)
    report = check_dataset(name)
    print(report.text())
    if args.max_pictures > 0:
        folder = Path(args.output or Path("output") / "check" / name)
        try:
            written = draw(name, folder, args.max_pictures)
            if written:
                print(f"{written} annotated pictures are in {folder}")
            else:
                print("No pictures could be made; see above.", file=sys.stderr)
        except UserError:  # the report has its sentence
            print("No pictures: the set cannot be loaded, see above.", file=sys.stderr)
    return 0 if report.ok else 1


if __name__ == "__main__":
    run_tool(main)
