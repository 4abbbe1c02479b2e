try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@task(queue_name="mail")
def send_receipt(order: int, to: str) -> str:
    return f"receipt {order} to {to}"


@task(takes_context=True)
async def audit(context, order: int) -> list[int]:
    return [order, context.attempt]
