from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_POST

from shop.tasks import send_receipt


@require_POST
def create(request: HttpRequest) -> JsonResponse:
    result = send_receipt.enqueue(int(request.GET["order"]), to=request.GET["to"])
    return JsonResponse({"id": result.id}, status=202)


def show(request: HttpRequest, task_id: str) -> JsonResponse:
    result = send_receipt.get_result(task_id)
    value = result.return_value if result.status == "SUCCESSFUL" else None
    return JsonResponse({"state": result.status, "value": value})
