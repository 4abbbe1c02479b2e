import time

from tranship import current, task


@task
def thumbnail(photo: str, width: int = 128) -> str:
    if not photo:
        raise ValueError("a photo needs a name")
    for step in range(1, 5):
        time.sleep(0.1)  # here the work would be
        current().progress(step, 4, f"part {step} of {photo}")
    return f"{photo}.{width}.png"


@task
def album(photos: list[str]) -> str:
    return f"album of {len(photos)}"
