from tranship import task


@task(run_timeout=60)
def thumbnail(photo: str, width: int = 128) -> str:
    return f"{photo}.{width}.png"
