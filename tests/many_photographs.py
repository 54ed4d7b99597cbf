"""Folders of many photographs that take no space."""


def link_scenes(folder, name, count):
    """Fill ``folder / name`` with links to the scenes in ``folder / "scenes"``, named by numbers."""
    scenes = sorted((folder / "scenes" / "JPEGImages").iterdir())
    (folder / name).mkdir()
    for number in range(count):
        (folder / name / f"{number:05d}.jpg").symlink_to(scenes[number % len(scenes)])
