from django.urls import path

from shop import views

urlpatterns = [
    path("receipts", views.create),
    path("receipts/<str:task_id>", views.show),
]
