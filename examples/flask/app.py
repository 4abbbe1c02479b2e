from flask import Flask, request
from media import thumbnail
from tranship import Client


def create_app() -> Flask:
    app = Flask(__name__)
    tasks = app.extensions["tranship"] = Client()

    @app.post("/thumbnails")
    def create():
        return {"id": tasks.submit(thumbnail, request.args["photo"]).id}, 202

    @app.get("/thumbnails/<task_id>")
    def show(task_id):
        result = tasks.handle(task_id).info()
        return {"state": result.state, "value": result.value}

    @app.get("/ready")
    def ready():
        return {"broker_seconds": tasks.ping()}

    return app
