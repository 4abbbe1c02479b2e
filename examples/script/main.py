from media import thumbnail
from tranship import Client

with Client() as client:
    handles = client.submit_many(thumbnail.call(photo) for photo in ["cat", "dog", "owl"])
    for result in client.collect(handles, timeout=30):
        print(result.value)
