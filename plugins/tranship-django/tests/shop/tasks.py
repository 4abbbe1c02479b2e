from shop.models import Order
from tranship_django._interface import BaseTaskBackend

if BaseTaskBackend.__module__.startswith("django.tasks"):
    from django.tasks import task
else:
    from django_tasks import task


@task
def add(left, right):
    return left + right


@task(queue_name="mail")
def fail(text):
    raise ValueError(text)


@task(takes_context=True)
async def identify(context, word):
    count = await Order.objects.acount()
    return [context.task_result.id, context.attempt, word, count >= 0]


@task
def order(name):
    return Order.objects.create(name=name).pk


@task
def unwritable():
    return object()


@task(takes_context=True)
def second_time(context, word):
    if context.attempt < 2:
        raise OSError(word)
    return [word, len(context.task_result.worker_ids)]
