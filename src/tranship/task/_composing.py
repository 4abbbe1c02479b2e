"""What a call and a workflow have in common: something may follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    # Loaded by the first workflow: who submits single tasks has no use for it.
    from tranship.task._task import Task, TaskCall
    from tranship.task._workflow import Step, Workflow

__all__ = ["Composable", "Gatherable"]

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Gatherable(Generic[R_co]):
    """A member of a gathering. ``R_co``: the type of its result."""

    __slots__ = ()


class Composable(Gatherable[R_co]):
    """A call with all its arguments, or a workflow of such calls. ``R_co``: the type of its result."""

    __slots__ = ()

    @overload
    def then(self, step: Step[R_co, T] | TaskCall[T] | Workflow[T], /) -> Workflow[T]: ...
    @overload
    def then(self, step: Task[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs) -> Workflow[T]: ...
    @overload
    def then(self, step: str, /, *args: Any, **kwargs: Any) -> Workflow[Any]: ...

    def then(self, step: Any, /, *args: Any, **kwargs: Any) -> Workflow[Any]:
        """Return the workflow in which ``step`` runs after this, if this succeeds.

        Args:
            step: what follows. A task, or its name, is called with the result of this as its first argument and with
                ``args`` and ``kwargs`` after it, as is ``task.step(...)``. What ``task.call(...)`` returns has all its
                arguments: it takes no result. It may be a workflow or a gathering, too.
            args, kwargs: the task's other arguments, checked before anything is sent.

        Raises:
            InvalidArgumentsError: it is no step, its arguments do not fit, or it cannot take the result of this.
        """
        from tranship.task._workflow import Workflow, followed

        return Workflow(followed(self, step, args, kwargs))

    @overload
    def on_error(self, handler: Step[str, Any] | TaskCall[Any], /) -> Workflow[R_co]: ...
    @overload
    def on_error(
        self, handler: Task[Concatenate[str, P], Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Workflow[R_co]: ...
    @overload
    def on_error(self, handler: str, /, *args: Any, **kwargs: Any) -> Workflow[R_co]: ...

    def on_error(self, handler: Any, /, *args: Any, **kwargs: Any) -> Workflow[R_co]:
        """Return the workflow in which ``handler`` runs when one of the steps that it has so far fails for good.

        It is submitted as a task of its own, with the id of the step that failed as its first argument; the workflow
        fails all the same. If a member of a gathering fails that something follows, it is the step after the gathering
        that fails.

        Args:
            handler: a task, or its name, or ``task.step(...)``; what ``task.call(...)`` returns takes no id.
            args, kwargs: the handler's other arguments.

        Raises:
            InvalidArgumentsError: it is no handler, or its arguments do not fit.
        """
        from tranship.task._workflow import Workflow, handled

        return Workflow(handled(self, handler, args, kwargs))
