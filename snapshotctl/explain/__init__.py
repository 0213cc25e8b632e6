"""Why a pod was restored or started cold, by the webhook's own functions."""
