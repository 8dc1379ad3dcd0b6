"""Says what is wrong with a data set, file by file, and draws some of its annotations.

    python tools/check_dataset.py NAME [--config-file FILE] [--output DIR] [--max-pictures N]
    python tools/check_dataset.py --images DIR --labels DIR [--classes DIR --names NAME...]
        [--instances KIND] [--image-suffix TEXT] [--label-suffix TEXT]
    python tools/check_dataset.py --images DIR --json FILE

Exit status 1 if anything is wrong.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from instance_seg_common.data import register_builtin_datasets
from instance_seg_common.data.check import check_dataset
from instance_seg_common.data.coco import make_source, register_coco_source
from instance_seg_common.data.label_map import register_label_map_source, source_of_folders
from instance_seg_common.data.label_objects import KINDS
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.command_line import run_tool
from instance_seg_common.engine.picture_run import PictureWriter
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError
from instance_seg_common.visualization.panels import annotation_panel

UNNAMED = "given_on_the_command_line"
# Arguments for --images with --labels alone, and the keys of an entry that they are.
OF_LABELS = {
    "classes": "class_dir",
    "names": "thing_classes",
    "instances": "instances",
    "image_suffix": "image_suffix",
    "label_suffix": "label_suffix",
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="a registered data set")
    parser.add_argument("--config-file", default="", help="registers its DATASETS.REGISTER")
    parser.add_argument("--images", metavar="DIR", help="folder of images")
    parser.add_argument("--labels", metavar="DIR", help="folder of instance-id label images")
    parser.add_argument("--classes", metavar="DIR", help="folder of class-id images")
    parser.add_argument("--names", nargs="+", help="names of the classes; default: object")
    parser.add_argument("--instances", choices=KINDS, help="what of a label is an object")
    parser.add_argument("--image-suffix", metavar="TEXT", help="end of the names of images")
    parser.add_argument("--label-suffix", metavar="TEXT", help="end of the names of labels")
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
    options = {key: getattr(args, name) for name, key in OF_LABELS.items() if getattr(args, name)}
    if options and args.labels is None:
        owner = "the data set that is named" if args.json is None else "the JSON"
        wrong = ", ".join(
            f"--{name.replace('_', '-')}" for name in OF_LABELS if getattr(args, name)
        )
        raise UserError(f"{wrong} would change nothing: {owner} says it. Leave it out.")
    if args.name is None:
        register_unnamed(args, options)
    return args.name or UNNAMED


def register_unnamed(args: argparse.Namespace, options: "dict[str, Any]") -> None:
    """Register the files of the command line, options by their keys."""
    command = shlex.join(["python", "tools/check_dataset.py", *sys.argv[1:]])
    if args.json is not None:
        source = make_source(
            name=UNNAMED, json_file=args.json, image_root=args.images, check_command=command
        )
        register_coco_source(source)
        return
    source = source_of_folders(
        name=UNNAMED, image_dir=args.images, label_dir=args.labels, check_command=command, **options
    )
    register_label_map_source(source)


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
